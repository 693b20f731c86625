"""The pages that a run leaves, opened in a real browser without network, as wide as a desktop and as a telephone.

CPS_TEST_BROWSER is a Chromium. Pictures of the pages stay in build/pages for a person to look at.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from components.matrix.cells import CPS, SUPERVISED, Cell, Score
from components.matrix.published_results import published
from components.matrix.report import MatrixResult, write_files
from components.recipes import load_recipe
from components.storage.client import Store
from components.storage.settings import StoreSettings

REPOSITORY = Path(__file__).parents[2]
PICTURES = REPOSITORY / "build" / "pages"
WIDTHS = {"desktop": 1280, "telephone": 390}
TALLEST = 16000

# A whole small run in a process of its own: what is looked at is what the pipeline's own steps write.
SMALL_RUN = """
import sys
from pathlib import Path
from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset, split_labels_step
from components.evaluation.publish import select_step
from components.evaluation.sweep import evaluate_step
from components.labeling.label_next import label_next
from components.prediction.predict import predict_step
from components.storage.client import open_store
from components.training.train import train

scenes = "scenes:train=16,val=6,width=192,height=96,seed=0"
request = RunRequest(dataset=scenes, labeled_ratio="1/2", epochs=2, batch_size=2)
run_key = split_labels_step(prepare_dataset(request).digest, request)
train(run_key, 1)
evaluate_step(run_key, "0/1")
select_step(run_key, "report.html", "summary.md")
predict_step(run_key, "val", 6, "gallery.html")
label_next(open_store(), run_key, 4, Path("."))
"""
PAGES = ["report", "gallery", "label-next", "matrix"]
CHARTS = {"report": 5, "matrix": 1}
"""Charts that are visible; some are drawn twice, for wide and narrow screens, and one of the two is hidden."""

# Runs inside the page after it has loaded, and tells the frame around it what it found.
PROBE = """<script>
addEventListener("load", () => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && box.right > innerWidth + 1 && !element.closest(".scroll, [style*=overflow]");
  });
  parent.postMessage(JSON.stringify({
    width: innerWidth, scrollWidth: root.scrollWidth, scrollHeight: root.scrollHeight, language: root.lang,
    title: document.title, text: document.body.innerText.length,
    wide: wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 120)),
    images: [...document.images].map((image) => ({alt: image.alt, shown: image.complete && image.naturalWidth > 0})),
    charts: [...document.querySelectorAll("svg[role=img]")].filter((chart) => chart.getBoundingClientRect().width)
      .map((chart) => chart.getAttribute("aria-label")),
    links: [...document.querySelectorAll("a[href^='#']")].map((link) => link.getAttribute("href"))
      .filter((link) => link.length > 1 && !document.getElementById(link.slice(1))),
    headings: document.querySelectorAll("h1").length,
  }), "*");
});
</script>"""

FRAME = """<!doctype html><meta charset="utf-8">
<style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
<iframe src="{page}" style="width: {width}px; height: {height}px"></iframe>
<script>addEventListener("message", (event) => {{
  const found = document.createElement("pre");
  found.id = "found"; found.hidden = true; found.textContent = encodeURIComponent(event.data);
  document.body.append(found);
}});</script>"""


@dataclass(frozen=True)
class Seen:
    """What the browser found in a page."""

    found: dict
    console: list[str]


@pytest.fixture(scope="module")
def pages(store_server: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages of a small run, and that of a matrix with published figures beside it."""
    folder = tmp_path_factory.mktemp("pages")
    settings = replace(store_server, bucket="pages")
    Store(settings).check()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "CPS_BUCKET": settings.bucket,
        "CPS_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-c", SMALL_RUN], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    write_files(small_matrix(), folder)
    return folder


def small_matrix() -> MatrixResult:
    recipe = load_recipe("cityscapes-deeplabv3p-resnet50")
    scores = [
        Score(Cell(ratio, seed, method), f"run-{ratio}-{seed}", 186 * number, 0.6 + number / 50 + seed / 90, 0.7, 900)
        for number, ratio in enumerate(("1/16", "1/8", "1/4", "1/2"), start=1)
        for seed in (1, 2, 3)
        for method in (CPS, SUPERVISED)
    ]
    lines = published(recipe, "cityscapes", 19)
    return MatrixResult("cityscapes", recipe.name, 500, "cps matrix", tuple(scores), lines)


@pytest.mark.parametrize("device", sorted(WIDTHS))
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(pages: Path, name: str, device: str, tmp_path: Path) -> None:
    seen = look(pages / f"{name}.html", WIDTHS[device], tmp_path, picture=PICTURES / f"{name}-{device}.png")
    assert seen.console == []
    assert seen.found["width"] == WIDTHS[device]
    assert seen.found["scrollWidth"] <= WIDTHS[device], seen.found["wide"]
    assert seen.found["language"] == "en"
    assert seen.found["title"]
    assert seen.found["headings"] == 1
    assert seen.found["text"] > 200
    images, charts = seen.found["images"], seen.found["charts"]
    assert len(charts) == CHARTS.get(name, 0)
    assert all(charts)
    assert len(images) >= (0 if name == "matrix" else 4)
    assert [image["alt"] for image in images if not image["shown"]] == []
    assert all(image["alt"] for image in images), "a picture without words for those who cannot see it"
    assert seen.found["links"] == [], "a link to a place that is not on the page"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_network(pages: Path, name: str) -> None:
    text = (pages / f"{name}.html").read_text()
    loaded = re.findall(
        r"""(?:src|srcset|poster|data)=["'](?!data:|#)([^"']+)|url\((?!["']?(?:data:|#))([^)]+)""", text
    )
    assert loaded == []
    assert "<link" not in text
    assert "@import" not in text


def test_the_probe_sees_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><html lang=en><title>x</title><h1>x</h1><img alt=lost src=nowhere.png>"
        "<a href=#gone>x</a><div style='width: 3000px'>x</div><script>console.error('boo')</script>"
    )
    seen = look(page, 390, tmp_path)
    assert any("boo" in line for line in seen.console)
    assert seen.found["scrollWidth"] >= 3000
    assert seen.found["wide"]
    assert seen.found["images"] == [{"alt": "lost", "shown": False}]
    assert seen.found["links"] == ["#gone"]


def look(page: Path, width: int, scratch: Path, picture: Path | None = None) -> Seen:
    """Open a page in a frame of the given width (a headless window is never as narrow as a telephone)."""
    probed = scratch / f"probed-{page.name}"
    probed.write_text(page.read_text() + PROBE)
    frame = scratch / "frame.html"
    frame.write_text(FRAME.format(page=probed.name, width=width, height=900))
    opened = browse(frame, width, 900, scratch, "--dump-dom")
    found = re.search(r'<pre id="found"[^>]*>([^<]*)</pre>', opened.stdout)
    assert found, opened.stderr
    seen = json.loads(unquote(found[1]))
    if picture:
        height = min(seen["scrollHeight"], TALLEST)
        frame.write_text(FRAME.format(page=probed.name, width=width, height=height))
        picture.parent.mkdir(parents=True, exist_ok=True)
        browse(frame, width, height, scratch, f"--screenshot={picture}")
        assert picture.stat().st_size > 5000
    return Seen(seen, [line for line in opened.stderr.splitlines() if ":CONSOLE:" in line])


def browser() -> str:
    found = shutil.which(os.environ["CPS_TEST_BROWSER"])
    assert found, f"no browser {os.environ['CPS_TEST_BROWSER']}: apt-get install chromium"
    return found


def browse(page: Path, width: int, height: int, scratch: Path, action: str) -> "subprocess.CompletedProcess[str]":
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=60000",
        f"--user-data-dir={scratch / 'profile'}",
        f"--window-size={width},{height}",
    ]
    return subprocess.run(
        [browser(), *options, action, page.as_uri()], capture_output=True, text=True, check=False, timeout=60
    )
