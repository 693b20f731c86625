"""The sha256 of pretrained weights is determined before a run gets its key."""

import hashlib
from pathlib import Path

import pytest

from components.dataset.sources.fetch import fetch
from components.errors import UserError
from components.networks.pretrained_weights.installed import INSTALLED
from components.recipes import load_recipe
from components.runs.backbone import check_start, pin_addresses, pin_pretrained
from components.storage.client import Store
from tests.components.dataset.sources.web_server import serving
from tests.odd_files import spoil

Captured = pytest.CaptureFixture[str]


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


def test_an_address_may_have_a_sha256() -> None:
    assert pin_pretrained(recipe(pretrained="https://host/a.npz"), is_here=True).network.pretrained_sha256 == ""
    pinned = pin_pretrained(recipe(pretrained="s3://bucket/a.npz", pretrained_sha256="AB"), is_here=True)
    assert pinned.network.pretrained_sha256 == "ab"


def test_an_address_keeps_the_sha256_of_its_first_use(store: Store, tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "a.npz").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    with serving(tmp_path) as server:
        address = f"{server.url}/a.npz"
        given = recipe(pretrained=address)
        pinned = pin_addresses(given, store)
        assert pinned.network.pretrained_sha256 == digest
        assert f"pretrained weights {address}: sha256 {digest} recorded" in capfd.readouterr().err
        (tmp_path / "a.npz").write_bytes(b"others")
        assert pin_addresses(given, store) == pinned
        with pytest.raises(UserError, match="sha256"):  # as the training step fetches it
            fetch(address, pinned.network.pretrained_sha256, tmp_path / "fetched", store, "train")
    assert pin_addresses(given, store) == pinned  # without the server
    assert pin_addresses(pinned, store) == pinned
    assert pin_addresses(recipe(), store) == recipe()


def test_a_missing_address_is_named(store: Store, tmp_path: Path) -> None:
    with serving(tmp_path) as server, pytest.raises(UserError, match=r"a\.npz"):
        pin_addresses(recipe(pretrained=f"{server.url}/a.npz"), store)


def test_random_weights_in_place_of_pretrained_ones_are_asked_for() -> None:
    published = load_recipe("cityscapes-deeplabv3p-resnet50")
    assert check_start(published, published) == published
    with pytest.raises(
        UserError, match=r"starts from pretrained weights, but network\.pretrained is empty: omit it, or"
    ):
        check_start(load_recipe(published.name, {"network.pretrained": ""}), published)
    scratch = check_start(load_recipe(published.name, {"network.pretrained": "none"}), published)
    assert scratch.network.pretrained == ""
    assert pin_pretrained(scratch, is_here=True) == scratch


@pytest.mark.parametrize("pretrained", ["", "none"])
def test_a_stem_of_random_weights_is_never_frozen(pretrained: str) -> None:
    frozen = load_recipe("camvid-mobilenetv2", {"network.pretrained": pretrained})
    with pytest.raises(
        UserError, match=r"freeze_stem would freeze random weights: set network\.pretrained, or network"
    ):
        check_start(frozen, load_recipe("camvid-mobilenetv2"))


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


def test_installed_weights_have_a_known_digest() -> None:
    network = {"structure": "efficientnet-lite0-fpn", "pretrained": "imagenet"}
    known = INSTALLED["efficientnet-lite0-fpn"].sha256
    for is_here in (True, False):
        assert pin_pretrained(recipe(**network), is_here=is_here).network.pretrained_sha256 == known
    with pytest.raises(UserError, match=r"imagenet is available for efficientnet-lite0-fpn, not for small-fpn: set it"):
        pin_pretrained(recipe(pretrained="imagenet"), is_here=False)
    with pytest.raises(UserError, match=rf"imagenet has sha256 {known}, but network.pretrained_sha256 is ab"):
        pin_pretrained(recipe(**network, pretrained_sha256="ab"), is_here=False)


@pytest.mark.parametrize("kind", ["empty", "git-lfs", "annexed", "page", "zeros"])
def test_a_file_that_was_not_downloaded_is_refused_before_the_run(kind: str, tmp_path: Path) -> None:
    said = spoil(tmp_path / "a.npz", kind)
    with pytest.raises(UserError, match=rf"^network\.pretrained: .*/a\.npz cannot be read: .*{said}"):
        pin_pretrained(recipe(pretrained=str(tmp_path / "a.npz")), is_here=True)
