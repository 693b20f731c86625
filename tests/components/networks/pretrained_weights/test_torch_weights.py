"""PyTorch's two file formats return the saved arrays without PyTorch; a file that calls other code is refused."""

import collections
import io
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.errors import UserError
from components.networks.pretrained_weights.installed import INSTALLED, installed_file
from components.networks.pretrained_weights.loading import load_backbone, read_arrays
from components.networks.pretrained_weights.pdparams import UnsafePickle
from components.networks.pretrained_weights.torch_weights import read_torch
from components.networks.structures import build

Arrays = Mapping[str, NDArray[Any]]


class Storage:
    """What PyTorch saves of a tensor's memory: its type, and a key for the bytes."""

    def __init__(self, kind: str, key: str, numbers: NDArray[Any]) -> None:
        self.kind, self.key, self.numbers = kind, key, numbers


class Tensor:
    """Pickles as PyTorch's tensors do: a call of `_rebuild_tensor_v2` with a view of a storage."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.view: tuple[Any, ...] = storage, offset, shape, strides, False, collections.OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.view


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for the module, so that pickles contain its names."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage", "BFloat16Storage"):
        setattr(module, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    module._utils = utils  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return module


def pickled(content: object, module: types.ModuleType, *, legacy: bool) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> Any:
            if not isinstance(value, Storage):
                return None
            known = ("storage", getattr(module, value.kind), value.key, "cpu", value.numbers.size)
            return (*known, None) if legacy else known

    file = io.BytesIO()
    Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def storages(content: Any) -> list[Storage]:
    if isinstance(content, Tensor):
        return [content.view[0]]
    found = [item for value in content.values() for item in storages(value)] if isinstance(content, dict) else []
    return list(dict.fromkeys(found))


def save(path: Path, content: Any, module: types.ModuleType, *, legacy: bool) -> None:
    """Write a file as `torch.save` does, in the format since 1.6 or the one before."""
    if legacy:
        headers: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        parts = [pickle.dumps(header, 2) for header in headers]
        parts += [pickled(content, module, legacy=True), pickle.dumps([item.key for item in storages(content)], 2)]
        for item in storages(content):
            parts += [item.numbers.size.to_bytes(8, "little"), item.numbers.tobytes()]
        path.write_bytes(b"".join(parts))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", pickled(content, module, legacy=False))
        archive.writestr("weights/byteorder", "little")
        for item in storages(content):
            archive.writestr(f"weights/data/{item.key}", item.numbers.tobytes())


def state() -> tuple[dict[str, Tensor], Arrays]:
    """A state with views: a transposed and an offset one of the same storage, a scalar, and other types."""
    floats = Storage("FloatStorage", "0", np.arange(12, dtype=np.float32))
    count = Storage("LongStorage", "1", np.array([7], np.int64))
    halves = Storage("HalfStorage", "2", np.linspace(0, 1, 4).astype(np.float16))
    brain = Storage("BFloat16Storage", "3", np.array([0x3F80, 0xC020], np.uint16))  # 1.0 and -2.5
    grid = floats.numbers.reshape(3, 4)
    tensors = {
        "whole": Tensor(floats, 0, (3, 4), (4, 1)),
        "columns": Tensor(floats, 0, (4, 3), (1, 4)),
        "last": Tensor(floats, 8, (4,), (1,)),
        "bn.num_batches_tracked": Tensor(count, 0, (), ()),
        "halves": Tensor(halves, 0, (2, 2), (2, 1)),
        "brain": Tensor(brain, 0, (2,), (1,)),
    }
    arrays = {
        "whole": grid,
        "columns": grid.T,
        "last": grid[2],
        "bn.num_batches_tracked": np.array(7),
        "halves": halves.numbers.reshape(2, 2),
        "brain": np.array([1.0, -2.5], np.float32),
    }
    return tensors, arrays


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", ["", "state_dict", "model"])
def test_saved_tensors_are_read(tmp_path: Path, torch: types.ModuleType, legacy: bool, wrap: str) -> None:
    tensors, arrays = state()
    best = Tensor(Storage("FloatStorage", "9", np.array([0.5], np.float32)), 0, (), ())
    content = {"epoch": 3, "best": best, wrap: tensors} if wrap else collections.OrderedDict(tensors)
    save(tmp_path / "a.pth", content, torch, legacy=legacy)
    found = read_torch(tmp_path / "a.pth")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ((0, (4, 4), (4, 1)), "a tensor outside of its storage of 12 numbers"),
        ((-1, (2,), (1,)), "a tensor outside of its storage"),
        ((9, (4,), (1,)), "a tensor outside of its storage"),
        ((0, (2,), (-1,)), "a tensor outside of its storage"),
    ],
)
def test_a_view_beyond_its_storage_is_refused(
    tmp_path: Path, torch: types.ModuleType, legacy: bool, tensor: tuple[Any, ...], text: str
) -> None:
    numbers = Storage("FloatStorage", "0", np.arange(12, dtype=np.float32))
    save(tmp_path / "a.pth", {"w": Tensor(numbers, *tensor)}, torch, legacy=legacy)
    with pytest.raises(UnsafePickle, match=text):
        read_torch(tmp_path / "a.pth")


class Calls:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch called",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_calls_other_code_runs_nothing(
    tmp_path: Path, torch: types.ModuleType, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.pth", {"w": Calls()}, torch, legacy=legacy)
    with pytest.raises(UserError, match=r"a\.pth cannot be read: it tries to call (posix|os)\.system"):
        read_arrays(tmp_path / "a.pth")
    assert not (tmp_path / "called").exists()


def test_what_is_no_state_is_refused(tmp_path: Path, torch: types.ModuleType) -> None:
    path = tmp_path / "a.pt"
    for content, text in ((b"", "Ran out of input"), (b"<html>", "cannot be read"), (pickle.dumps(1) * 5, "begin as")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=text):
            read_arrays(path)
    save(path, {"optimizer": {"lr": 0.1}}, torch, legacy=False)
    with pytest.raises(UserError, match="contains no dictionary of tensors, nor one under state_dict"):
        read_arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("constants.pkl", b"")
    with pytest.raises(UserError, match=r"a zip archive without data\.pkl"):
        read_arrays(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_refused(tmp_path: Path, torch: types.ModuleType, legacy: bool) -> None:
    path = tmp_path / "a.pth"
    save(path, state()[0], torch, legacy=legacy)
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"^pretrained weights .*a\.pth cannot be read: "):
            read_arrays(path)


@pytest.mark.parametrize("structure", INSTALLED)
def test_installed_weights_fill_their_network(structure: str) -> None:
    network = build(structure, 5, seed=0)
    match = load_backbone(network, installed_file(structure))
    assert (match.filled, match.unfilled) == (match.wanted, ())
    stem = read_torch(installed_file(structure))["_conv_stem.weight"]
    np.testing.assert_array_equal(network.state_dict()["features.0.0.weight"].numpy(), stem)
