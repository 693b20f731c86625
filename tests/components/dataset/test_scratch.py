"""Where there is no room for what is unpacked, drawn or mapped, one line says so, and nothing stays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.prepare import prepare
from components.disk import scratch_folder
from components.errors import UserError
from components.storage.client import Store
from tests.object_stores import small_disk


def label_ids(folder: Path) -> str:
    """Cityscapes as downloaded: 12 labels of more than 4 KB, which are mapped to class ids."""
    rng = np.random.default_rng(0)
    for number in range(12):
        name = f"{'train' if number < 10 else 'val'}/ulm/ulm_{number:06d}_000019"
        for kind, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            path = folder / kind / f"{name}_{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 34, (96, 96), dtype=np.uint8)).save(path)
    return str(folder)


@pytest.mark.parametrize("source", [label_ids, lambda _folder: "scenes:train=8,val=2"], ids=["mapped", "drawn"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    source: Callable[[Path], str], store: Store, tmp_path: Path
) -> None:
    dataset = source(tmp_path / "cityscapes")
    with small_disk(tmp_path / "disk", "32k") as disk:
        with pytest.raises(UserError) as error:
            prepare(dataset, "", store, disk)
        said = str(error.value)
        assert said.startswith(f"{disk}/dataset-")
        assert said.endswith(
            " cannot be written: No space left on device (0 B free); "
            "make room, or set CPS_WORK to a folder on a larger disk"
        )
        assert list(disk.iterdir()) == []
        assert store.list("") == []
    assert prepare(dataset, "", store, tmp_path / "larger").shards


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=rf"^{tmp_path}/file/work cannot be written: Not a directory; set CPS_WORK"),
        scratch_folder(tmp_path / "file" / "work"),
    ):
        pass
