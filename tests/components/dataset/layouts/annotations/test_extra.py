"""Without the extra `annotations`, the error names the line that installs it; LabelMe files do not need it."""

import sys
from pathlib import Path

import pytest

from components.dataset.layouts import read_layout
from components.extras import missing_package
from tests.components.dataset.annotated_on_disk import corners, cvat, cvat_polygon, labelme, read_labels, two_parts

_NEEDING = ("polygons", "coco", "cvat")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_parts(tmp_path / "coco")
    cvat(tmp_path / "cvat", "annotations.xml", {f"{name}.jpg": cvat_polygon() for name in "ab"})
    for name in "ab":
        labelme(tmp_path / f"labelme/{name}.json", {"label": "cat", "points": corners()})
    for module in _NEEDING:
        monkeypatch.delitem(sys.modules, f"components.dataset.layouts.annotations.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    for folder in ("coco", "cvat"):
        with pytest.raises(ModuleNotFoundError) as caught:
            read_layout(tmp_path / folder)
        assert "pycocotools is not installed: pip install 'cps-pipeline[annotations]" in str(
            missing_package(caught.value)
        )
    assert len(read_labels(tmp_path / "labelme")[1]) == 2
