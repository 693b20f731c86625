"""The controls of a gallery in a real browser: order, filter, classes, views, zoom and keys."""

import json
import re
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from components.contract import Class
from components.pages.shown import Painter
from components.prediction.gallery import draw_card, limits_for, render_gallery
from tests.browser.test_pages import FRAME, browse

CLASSES = [
    Class(name="background", color=(0, 0, 0)),
    Class(name="road", color=(128, 64, 128)),
    Class(name="car", color=(0, 0, 142)),
]

ACTIONS = """<script>
const say = {};
// Pictures are drawn when a frame shows them, and virtual time can pass without one: so wait for frames.
const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
const until = async (holds) => { for (let turn = 0; turn < 600 && !holds(); turn++) await frame(); };
const one = (selector) => document.querySelector(selector);
const cards = () => [...document.querySelectorAll("#cards .card")].filter((card) => !card.hidden);
const names = () => cards().map((card) => card.dataset.name);
const change = (control, value) => { control.value = value; control.dispatchEvent(new Event("change")); };
const pixel = (canvas, x, y) =>
  [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data];
const key = (target, name) => target.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
addEventListener("load", async () => {
  try {
    const canvas = () => one("#cards canvas.over"), alpha = () => pixel(canvas(), 0.25, 0.25)[3];
    await until(() => canvas()?.width > 1 && alpha() > 0);
    say.worst = names();
    change(one("#order"), "name"); say.byName = names();
    change(one("#only"), "2"); say.withCar = names(); say.shown = one("#shown").textContent;
    change(one("#only"), "");
    say.background = pixel(canvas(), 0.9, 0.9)[3]; say.road = pixel(canvas(), 0.25, 0.25);
    const car = one('[data-class="2"]');
    car.click(); await until(() => alpha() < 20);
    say.pressed = car.getAttribute("aria-pressed"); say.dimmed = alpha();
    car.click(); await until(() => alpha() > 20); say.back = alpha();
    one('[data-view-all="errors"]').click(); await until(() => alpha() === 0);
    say.right = alpha(); say.wrong = pixel(canvas(), 0.9, 0.25);
    const opener = one("#cards .card:not([hidden]) .pic");
    const dialog = one("dialog"), title = () => one("dialog .title").textContent;
    opener.focus(); opener.click(); await until(() => dialog.open && title());
    say.open = dialog.open; say.title = title();
    key(dialog, "ArrowRight"); await until(() => title() !== say.title); say.next = title();
    const handle = one("dialog .handle-b");
    key(handle, "ArrowRight"); say.moved = handle.getAttribute("aria-valuenow");
    key(handle, "Home"); say.home = handle.getAttribute("aria-valuenow");
    say.still = title();
    const box = one("dialog .stage").getBoundingClientRect();
    const place = { clientX: box.left + 0.9 * box.width, clientY: box.top + 0.25 * box.height };
    one("dialog .stage").dispatchEvent(new PointerEvent("pointermove", place));
    const readout = () => one("dialog .readout").textContent;
    await until(() => readout().includes("truth")); say.readout = readout();
    const focused = () => document.activeElement === opener;
    dialog.close(); await until(focused); say.focused = focused();
  } catch (error) { say.error = String(error.stack); }
  parent.postMessage(JSON.stringify(say), "*");
});
</script>"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page answers: in `a 2.jpg` the right half of the car is missed; in `a 10.jpg` nothing is wrong."""
    folder = tmp_path_factory.mktemp("controls")
    truth = np.zeros((64, 128), np.uint8)
    truth[:32, :64], truth[:32, 64:] = 1, 2
    missed = truth.copy()
    missed[:32, 96:] = 0
    road = np.where(truth == 2, 1, truth).astype(np.uint8)
    image, painter = np.full((64, 128, 3), 120, np.uint8), Painter(CLASSES)
    cards = [
        draw_card(name, image, prediction, real, painter, 255, limits_for(3))
        for name, prediction, real in (("b.jpg", road, road), ("a 10.jpg", truth, truth), ("a 2.jpg", missed, truth))
    ]
    page = folder / "page.html"
    page.write_text(render_gallery("x", cards, 3, CLASSES, [], []) + ACTIONS)
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=page.name, width=1000, height=900))
    for _ in range(3):  # a browser that has to be read from the disk may use up its virtual time before the first frame
        opened = browse(frame, 1000, 900, folder, "--dump-dom")
        found = re.search(r'<pre id="found"[^>]*>([^<]*)</pre>', opened.stdout)
        if found:
            break
    assert found, opened.stderr
    answers: dict[str, Any] = json.loads(unquote(found[1]))
    assert "error" not in answers, answers
    return answers


def test_images_are_sorted_and_filtered(said: dict[str, Any]) -> None:
    assert said["worst"] == ["a 2.jpg", "b.jpg", "a 10.jpg"]
    assert said["byName"] == ["a 2.jpg", "a 10.jpg", "b.jpg"]
    assert said["withCar"] == ["a 2.jpg", "a 10.jpg"]
    assert said["shown"] == "2 of 3 images"


def test_classes_are_toggled_and_a_background_is_transparent(said: dict[str, Any]) -> None:
    assert said["background"] == 0
    assert said["road"][3] == pytest.approx(255 * 0.45, abs=2)
    assert said["pressed"] == "true"
    assert said["dimmed"] < 20 < said["back"]


def test_errors_are_orange(said: dict[str, Any]) -> None:
    assert said["right"] == 0
    assert np.abs(np.subtract(said["wrong"][:3], (240, 96, 0))).max() <= 2
    assert said["wrong"][3] > 200


def test_an_image_is_zoomed_and_compared_with_the_keyboard(said: dict[str, Any]) -> None:
    assert said["open"] is True
    assert said["title"].startswith("a 2.jpg")
    assert said["next"].startswith("a 10.jpg")
    assert (said["moved"], said["home"]) == ("69", "0")
    assert said["still"] == said["next"], "keys on a handle do not go on to the next image"
    assert said["focused"] is True


def test_the_classes_under_the_pointer_are_named(said: dict[str, Any]) -> None:
    assert said["readout"] == "truth car · prediction car"
