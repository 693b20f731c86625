"""The sha256 of pretrained weights is determined before a run gets its key."""

import hashlib
from pathlib import Path

import pytest

from components.errors import UserError
from components.recipes import load_recipe
from components.runs.backbone import pin_pretrained
from tests.odd_files import spoil


def recipe(**network: str):
    return load_recipe("demo", {f"network.{name}": value for name, value in network.items()})


def test_a_file_is_hashed(tmp_path):
    path = tmp_path / "backbone.npz"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    pinned = pin_pretrained(recipe(pretrained=str(path)), is_here=True)
    assert pinned.network.pretrained_sha256 == digest
    assert pin_pretrained(pinned, is_here=True) == pinned
    with pytest.raises(UserError, match=f"has sha256 {digest}, but network.pretrained_sha256 is 00"):
        pin_pretrained(recipe(pretrained=str(path), pretrained_sha256="00"), is_here=True)


def test_nothing_to_pin():
    assert pin_pretrained(recipe(), is_here=True) == recipe()


def test_a_missing_file_is_named_where_it_would_be_read():
    elsewhere = recipe(pretrained="nowhere.npz")
    with pytest.raises(UserError, match=r"network.pretrained: 'nowhere.npz' is not a file"):
        pin_pretrained(elsewhere, is_here=True)
    assert pin_pretrained(elsewhere, is_here=False) == elsewhere


def test_an_address_needs_a_sha256():
    with pytest.raises(UserError, match=r"set network.pretrained_sha256 too"):
        pin_pretrained(recipe(pretrained="https://host/a.npz"), is_here=True)
    pinned = pin_pretrained(recipe(pretrained="s3://bucket/a.npz", pretrained_sha256="AB"), is_here=True)
    assert pinned.network.pretrained_sha256 == "ab"


def test_each_of_two_structures_has_a_file_of_its_own(tmp_path):
    right = tmp_path / "right.npz"
    right.write_bytes(b"other")
    two = recipe(
        right_structure="mobilenetv2-fpn",
        right_pretrained=str(right),
        pretrained="s3://b/a.npz",
        pretrained_sha256="AB",
    )
    network = pin_pretrained(two, is_here=True).network
    assert network.backbones == [
        ("s3://b/a.npz", "ab", ("left",)),
        (str(right), hashlib.sha256(b"other").hexdigest(), ("right",)),
    ]
    with pytest.raises(UserError, match=r"network.right_pretrained: 'nowhere' is not a file"):
        pin_pretrained(recipe(right_structure="mobilenetv2-fpn", right_pretrained="nowhere"), is_here=True)


@pytest.mark.parametrize("kind", ["empty", "git-lfs", "annexed", "page", "zeros"])
def test_a_file_that_was_not_downloaded_is_refused_before_the_run(kind: str, tmp_path: Path) -> None:
    said = spoil(tmp_path / "a.npz", kind)
    with pytest.raises(UserError, match=rf"^network\.pretrained: .*/a\.npz cannot be read: .*{said}"):
        pin_pretrained(recipe(pretrained=str(tmp_path / "a.npz")), is_here=True)
