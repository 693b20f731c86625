"""`cps init` as a shell sees it, and the refusals that name it."""

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.components.dataset.scenes_on_disk import grey, ids_of, painted, with_palette, write_classes, write_dataset
from tests.pipeline.in_process import cps

ROOT = Path(__file__).parents[3]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs and masks without classes, lists or a validation split."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    write_dataset(folder, "images/{name}.jpg", "masks/{name}.png", parts={"all": 12}, classes=3)
    return folder


def init(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return cps("init", *map(str, arguments), CPS_CACHE=os.environ["CPS_CACHE"])


def check(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return cps("dataset", "check", *map(str, arguments), CPS_CACHE=os.environ["CPS_CACHE"])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_without_a_terminal_it_only_proposes(photos: Path) -> None:
    ended = init(photos)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == "my-photos: layout folders; 12 images with a label"
    assert lines[1].split() == ["in", "labels", "pixels", "labels", "class", "shown", "as"]
    assert lines[2].split() == ["0", "93.5", "%", "100.0", "%", "class-0", "#0072b2"]
    assert lines[5] == "names    are placeholders: replace them in classes.json"
    assert lines[-1] == "nothing was written; add --yes to write these files"
    assert lines[-4:-1] == [
        f"create   {photos}/classes.json (3 classes)",
        f"create   {photos}/val.txt (2 images)",
        f"create   {photos}/train.txt (10 images)",
    ]
    assert files(photos) == ["images", "masks"]


def test_yes_writes_and_once_more_changes_nothing(photos: Path) -> None:
    ended = init(photos, "--yes")
    assert (ended.returncode, ended.stderr) == (0, "")
    train = (
        f"`cps run --dataset {shlex.quote(str(photos))}` trains on it from the labels alone, because there are no "
        "other images; --ratio 1/2 hides half of the labels"
    )
    assert ended.stdout.splitlines()[-1] == f"written; {train}"
    assert files(photos) == ["classes.json", "images", "masks", "train.txt", "val.txt"]
    before = {path: path.read_bytes() for path in photos.glob("*.*")}
    again = init(photos, "--yes", "--replace")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, f"nothing to add; {train}")
    assert {path: path.read_bytes() for path in photos.glob("*.*")} == before
    assert check(photos).returncode == 0


def test_json_is_for_scripts(photos: Path) -> None:
    ended = init(photos, "--json")
    assert ended.returncode == 0
    proposal = json.loads(ended.stdout)
    assert [(each["id"], each["name"]) for each in proposal["classes"]] == [(n, f"class-{n}") for n in range(3)]
    assert [file["path"] for file in proposal["files"]] == ["classes.json", "val.txt", "train.txt"]
    assert proposal["split"]["images"] == 2
    assert files(photos) == ["images", "masks"]
    written = init(photos, "--json", "--yes")
    assert json.loads(written.stdout) == proposal
    for file in proposal["files"]:
        assert (photos / file["path"]).read_text() == file["text"]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 130)])
def test_a_terminal_is_asked(photos: Path, answer: str, code: int) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "init", "-q", str(photos)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        shown = ""
        try:
            while part := os.read(ours, 4096):
                shown += part.decode()
        except OSError:  # Linux says so when the other side is closed
            pass
        os.close(ours)
    assert "create classes.json, val.txt, train.txt? [y/N]: " in shown
    assert process.returncode == code, shown
    assert ("train.txt" in files(photos)) is (answer == "y")
    assert ("nothing was written" in shown) is (answer == "n")


def test_files_are_replaced_only_on_request(photos: Path) -> None:
    lines = [f"images/{number:02}.jpg masks/{number:02}.png\n" for number in range(12)]
    (photos / "train.txt").write_text("".join(lines))
    refused = init(photos, "--yes")
    assert refused.returncode == 2
    assert refused.stderr == (f"cps: error: train.txt in {photos} would be replaced: add --replace to agree\n")
    assert files(photos) == ["images", "masks", "train.txt"]
    assert init(photos).stdout.endswith("nothing was written; add --yes --replace to write these files\n")
    assert init(photos, "--yes", "--replace").returncode == 0
    assert len((photos / "train.txt").read_text().splitlines()) == 10
    assert check(photos).returncode == 0


def test_a_folder_that_cannot_be_written_is_said_first(photos: Path) -> None:
    photos.chmod(0o555)
    # Root may write everywhere, unless it lacks this capability.
    start = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
    if start and not shutil.which(start[0]):
        pytest.skip("as root, this needs setpriv")
    command = [*start, sys.executable, "-m", "pipeline.cli", "init", str(photos)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--yes"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"cps: error: {photos} cannot be written: Permission denied; copy the folder, or print the proposal with "
        "--json\n"
    )
    photos.chmod(0o755)


def test_rare_classes_and_void_are_as_asked(photos: Path) -> None:
    for number in range(2):
        grey(photos / f"masks/{number:02}.png", ids_of(number, 4))
    listed = init(photos).stdout
    assert "rare     class-3 (2 labels, 0.6 %): fewer than 5 labels" in listed
    assert "`--merge-rare void` ignores their pixels" in listed
    ended = init(photos, "--merge-rare", "thing", "--void", "1", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert json.loads((photos / "classes.json").read_text()) == {
        "classes": [
            {"id": 0, "name": "class-0", "color": [0, 114, 178]},
            {"id": 2, "name": "class-2", "color": [240, 228, 66]},
            {"id": 3, "name": "thing", "color": [0, 158, 115]},
        ],
        "ignore_values": [1],
    }
    assert check(photos).returncode == 0


def test_what_the_check_would_refuse_is_not_written(photos: Path) -> None:
    (photos / "images/03.jpg").write_bytes(b"")
    ended = init(photos, "--yes")
    assert ended.returncode == 2
    assert ended.stderr == (
        f"cps: error: dataset {photos}: image images/03.jpg cannot be read (the file is empty): replace it, or remove "
        "it from the dataset\n"
    )
    assert "fatal    Unreadable files (1)" in ended.stdout
    assert "create" not in ended.stdout
    assert files(photos) == ["images", "masks"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["notes.txt"], "is a file"),
        (["empty"], "is not a recognised dataset layout"),
        (
            ["my photos", "--void", "black"],
            "--void 'black' must be a value of 0 to 255, a colour such as '#000000', or none",
        ),
        (["my photos", "--void", "9"], "no label in"),
        (["my photos", "--val-share", "0"], "--val-share"),
        (["my photos", "--group-by", "("], "is not a regular expression"),
        (["--example", "my photos"], "my photos is not empty: choose a new folder"),
        (["--example", "new", "--yes"], "--example makes a complete dataset; leave out --yes"),
        (["--example", "notes.txt/new"], "cannot be written: Not a directory"),
    ],
)
def test_a_mistake_ends_with_2(
    photos: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    ended = init(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert files(photos) == ["images", "masks"]


@pytest.mark.slow
def test_the_example_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    ended = init("--example", folder, "-q")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{folder}\n", "")
    assert {part.name: len(list(part.iterdir())) for part in (folder / "images").iterdir()} == {
        "train": 30, "val": 10, "unlabeled": 40,
    }  # fmt: skip
    assert init(folder).stdout.splitlines()[-1] == f"nothing to add; `cps run --dataset {folder}` trains on it"


# Refusals that name the command: following them to the letter helps.


def follow(refused: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return the arguments of the command that an error names."""
    command = shlex.split(refused.stderr.rpartition("`")[0].rpartition("`")[2])
    assert command[:2] == ["cps", "init"], refused.stderr
    return command[2:]


def test_a_folder_without_classes_is_sent_here(photos: Path) -> None:
    refused = check(photos)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "declares no classes: add classes.json or classes.yaml to it; or run `cps init" in refused.stderr
    assert init(*follow(refused), "--yes").returncode == 0
    assert check(photos).returncode == 0


def test_several_folders_are_sent_here(tmp_path: Path) -> None:
    for place in ("oslo", "bergen", "voss"):
        write_dataset(tmp_path / "places", f"{place}/{{name}}.jpg", f"{place}/{{name}}_mask.png", parts={"all": 4})
    refused = check(tmp_path / "places")
    assert (
        "contains several datasets, bergen and oslo and voss: pass the folder of one of them; or run" in refused.stderr
    )
    assert init(*follow(refused), "--yes").returncode == 0
    assert check(tmp_path / "places").stdout.splitlines()[0].startswith("places: ")


def test_a_train_list_alone_is_sent_here(photos: Path) -> None:
    write_classes(photos, "a", "b", "c")
    (photos / "train.txt").write_text("".join(f"images/{n:02}.jpg masks/{n:02}.png\n" for n in range(12)))
    refused = check(photos)
    assert "has no val.txt: add it with one `image label` pair per line; or run `cps init" in refused.stderr
    assert init(photos, "--yes", "--replace").returncode == 0
    assert check(photos).returncode == 0


def test_labels_that_do_not_fit_a_tools_names_are_sent_here(photos: Path) -> None:
    (photos / "labels.txt").write_text("cat\ndog\n")
    refused = check(photos)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith(
        f"; `cps init {shlex.quote(str(photos))}` proposes classes that fit the labels"
    )
    assert init(photos, "--yes").returncode == 0
    assert check(photos).returncode == 0


def test_vocs_folders_with_other_classes_are_sent_here(tmp_path: Path) -> None:
    paint = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    pairs = write_dataset(
        tmp_path, "JPEGImages/{part}_{name}.jpg", "SegmentationClass/{part}_{name}.png", classes=3,
        write=lambda path, ids: with_palette(path, ids, paint),
    )  # fmt: skip
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    for part, names in pairs.items():
        text = "".join(f"{Path(image).stem}\n" for image, _ in names)
        (tmp_path / f"ImageSets/Segmentation/{part}.txt").write_text(text)
    refused = check(tmp_path)
    assert "contain only 3 of PASCAL VOC's 21 classes" in refused.stderr
    assert init(*follow(refused), "--yes").returncode == 0
    assert check(tmp_path).returncode == 0


@pytest.mark.parametrize("kind", ["jpeg", "no labels", "archive", "own classes"])
def test_others_are_not_sent_here(photos: Path, tmp_path: Path, kind: str) -> None:
    source = photos
    if kind == "jpeg":
        for path in (photos / "masks").iterdir():
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
    elif kind == "no labels":
        shutil.rmtree(photos / "masks")
        (photos / "masks").mkdir()
    elif kind == "archive":
        source = Path(shutil.make_archive(str(tmp_path / "photos"), "tar", photos))
    else:
        write_classes(photos, "a", "b")
        painted(photos / "masks/00.png", ids_of(0, 3))
    refused = check(source)
    assert refused.returncode in (1, 2)
    assert "cps init" not in refused.stderr
