"""Read PyTorch's .pth and .pt files, which contain pickles, without PyTorch and without executing their content.

PyTorch has two formats: since version 1.6 a zip archive of a pickle and one file per storage, and before that several
pickles followed by the storages. In both, the pickle describes each tensor as a view of a storage. As in `pdparams`,
only the few names that tensors need are known, and any other name is an error.
"""

import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from components.networks.pretrained_weights.pdparams import Array, UnsafePickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_HEADERS = 3
"""Magic number, protocol version and system information precede the tensors in the old format."""
_NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Where training scripts put a network's tensors in a file that holds more, in the order of preference."""
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # numpy has no bfloat16: its bits are the upper half of a float32
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<?",
}


def read_torch(path: Path) -> dict[str, Array]:
    """Return the arrays of a network's state by name, in the file's order; bfloat16 becomes float32.

    A file that holds more than a state, such as a checkpoint, must have it under a usual name such as `state_dict`.

    Raises UnsafePickle, pickle.UnpicklingError, and any error that `pickle` and `zipfile` raise for a damaged file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content, storages = _read_zip(archive)
    else:
        with path.open("rb") as file:
            content, storages = _read_legacy(file)
    return {name: tensor.array(storages) for name, tensor in _tensors(content)}


@dataclass(frozen=True)
class _Storage:
    """A block of numbers of one type that tensors are views of."""

    key: str
    code: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """`offset` and `strides` count numbers, not bytes."""

    def array(self, storages: Mapping[str, bytes]) -> Array:
        numbers = np.frombuffer(storages[self.storage.key], dtype=self.storage.code)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.strides, *self.shape, 0) < 0 or (0 not in self.shape and last >= numbers.size):
            raise UnsafePickle(f"it contains a tensor outside of its storage of {numbers.size} numbers")
        strides = [step * numbers.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)
        if self.storage.code == _STORAGES["BFloat16Storage"]:
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view.copy()


def _tensors(content: object) -> Iterator[tuple[str, _Tensor]]:
    """Yield the tensors by name, from a dictionary inside the file's if it has one, since a checkpoint has others."""
    nested = [content[name] for name in _NESTED if name in content] if isinstance(content, dict) else []
    for candidate in (*nested, content):
        found = _named(candidate)
        if found:
            yield from found
            return
    raise UnsafePickle(f"it contains no dictionary of tensors, nor one under {', '.join(_NESTED)}")


def _named(content: object) -> list[tuple[str, _Tensor]]:
    items = content.items() if isinstance(content, dict) else ()
    return [(str(name), value) for name, value in items if isinstance(value, _Tensor)]


def _read_zip(archive: zipfile.ZipFile) -> tuple[object, dict[str, bytes]]:
    names = archive.namelist()
    pickles = [name for name in names if PurePosixPath(name).name == "data.pkl"]
    if len(pickles) != 1:
        raise UnsafePickle("it is a zip archive without data.pkl, so PyTorch did not write it, or it is a TorchScript")
    folder = PurePosixPath(pickles[0]).parent
    order = folder / "byteorder"
    if str(order) in names and archive.read(str(order)).strip() != b"little":
        raise UnsafePickle("it was written on a big-endian machine")
    with archive.open(pickles[0]) as file:
        reader = _Reader(file, encoding="latin1")
        content = reader.load()
    return content, {key: archive.read(str(folder / "data" / key)) for key in reader.storages}


def _read_legacy(file: IO[bytes]) -> tuple[object, dict[str, bytes]]:
    headers = [_Reader(file, encoding="latin1").load() for _ in range(_LEGACY_HEADERS)]
    if headers[0] != _LEGACY_MAGIC:
        raise UnsafePickle("it does not begin as PyTorch's files do")
    reader = _Reader(file, encoding="latin1")
    content = reader.load()
    keys = _Reader(file, encoding="latin1").load()
    return content, {str(key): _read_storage(file, reader.storages.get(str(key))) for key in keys}


def _read_storage(file: IO[bytes], code: str | None) -> bytes:
    if code is None:
        raise UnsafePickle("it contains a storage that no tensor uses")
    numbers = int.from_bytes(file.read(8), "little")
    size = numbers * np.dtype(code).itemsize
    data = file.read(size) if size <= sys.maxsize else b""
    if len(data) < size:
        raise UnsafePickle(f"it ends within a storage of {numbers} numbers")
    return data


def _rebuild_tensor(storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise UnsafePickle("it contains a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor: object, *_: Any) -> object:
    return tensor


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): OrderedDict,
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes], *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.storages: dict[str, str] = {}
        """numpy's type code of each storage that a tensor refers to, by the storage's key."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise UnsafePickle(f"it tries to call {module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(code), key, _, _) | ("storage", str(code), key, _, _, None):
                return _Storage(str(key), self.storages.setdefault(str(key), code))
        raise UnsafePickle("it refers to a storage in an unknown way")
