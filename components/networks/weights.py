"""Read and write trained weights: safetensors files that describe the networks they belong to.

A checkpoint holds both networks, with the prefixes `left.` and `right.`; the file of a single best network has no
prefix. The metadata is enough to rebuild and use the networks: structure (and `right_structure` if the right network
has a different one), classes, normalisation, crop and stride.

Paddle is imported only to build a network, because engines without Paddle read the arrays as well.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from components.contract import Class
from components.errors import UserError, WorkFailed
from components.reading import mistaken, open_file

if TYPE_CHECKING:
    from paddle import nn

FORMAT = "cps-checkpoint/1"
BRANCHES = ("left", "right")
RIGHT_STRUCTURE = "right_structure"
REQUIRED = ("structure", "num_classes", "classes", "mean", "std", "crop", "stride")

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Networks:
    """Networks in evaluation mode, by branch name (`left`, `right`, or `only`), and the file's metadata."""

    layers: "dict[str, nn.Layer]"
    meta: dict[str, str]


def state_arrays(network: "nn.Layer") -> dict[str, Array]:
    """Return parameters and running statistics by structured name, copied to the host."""
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def pack(branches: Mapping[str, Mapping[str, Array]], meta: Mapping[str, str]) -> bytes:
    """Return a checkpoint as bytes; `branches` maps left and right to their arrays."""
    arrays = {
        f"{branch}.{name}": np.ascontiguousarray(array)
        for branch, state in branches.items()
        for name, array in state.items()
    }
    return canonical(save(arrays, {"format": FORMAT, "branches": ",".join(branches), **meta}))


def canonical(data: bytes) -> bytes:
    """Return a safetensors file with sorted header keys, so that equal weights give equal files.

    The library writes metadata in the random order of a hash table.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the data to 8 bytes
    return len(header).to_bytes(8, "little") + header + data[start:]


def content_sha256(data: bytes) -> str:
    """Return the sha256 of a file's tensors, including names, types and shapes but not the metadata."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(memoryview(data)[start:])
    return digest.hexdigest()


def extract_branch(path: Path, branch: str) -> bytes:
    """Return one branch of a checkpoint as the bytes of a separate weights file."""
    arrays, meta = read_file(path)
    state = {name.removeprefix(f"{branch}."): array for name, array in arrays.items() if name.startswith(f"{branch}.")}
    if not state:
        raise WorkFailed(f"{path} contains no network {branch!r}")
    own = {**meta, "structure": structure_of(meta, branch), "branches": "only", "variant": branch}
    own.pop(RIGHT_STRUCTURE, None)
    return canonical(save(state, own))


def structure_of(meta: Mapping[str, str], branch: str) -> str:
    """Return the structure of a file's network `left`, `right` or `only`."""
    return meta.get(RIGHT_STRUCTURE, meta["structure"]) if branch == "right" else meta["structure"]


def whole_pair(path: Path, variant: str) -> bytes:
    """Return a checkpoint's bytes with `variant` in the metadata, which says how to combine its two networks."""
    arrays, meta = read_file(path)
    return canonical(save(arrays, {**meta, "variant": variant}))


def read_file(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Return arrays and metadata of a weights file. Raises UserError for any other file."""
    head = b""
    try:
        with open_file(path) as opened:
            head = opened.read(512)
        with safe_open(path, framework="numpy") as file:
            meta = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except OSError as error:
        absent = isinstance(error, FileNotFoundError) and not path.is_symlink()
        why = "do not exist" if absent else f"cannot be read: {error.strerror or error}"
        raise UserError(f"weights {path} {why}") from None
    except (SafetensorError, ValueError) as error:
        why = mistaken(head) or _of_another_format(path) or f"it is damaged ({error}); copy or download it again"
        raise UserError(f"weights {path} cannot be read: {why}") from None
    if meta.get("format") != FORMAT:
        raise UserError(f"weights {path} are not a checkpoint of this project (the metadata lacks {FORMAT!r})")
    lacking = [key for key in REQUIRED if key not in meta]
    if lacking:
        raise UserError(f"weights {path} lack metadata: {', '.join(lacking)}")
    return arrays, meta


def _of_another_format(path: Path) -> str:
    """Return what to do about a file whose name ends differently; "" if it is .safetensors, or nothing."""
    ending = path.suffix.lower()
    if ending in ("", ".safetensors"):
        return ""
    return f"it is {ending}, not .safetensors; `cps weights pull RUN -o weights.safetensors` downloads a run's weights"


def prefixes(meta: Mapping[str, str]) -> dict[str, str]:
    """Return the prefix of tensor names for each branch: `left` and `right`, or `only`."""
    return {"only": ""} if meta.get("branches") == "only" else {branch: f"{branch}." for branch in BRANCHES}


def read_networks(path: Path) -> Networks:
    """Build a file's networks and load their weights. Raises UserError if the weights do not fit the structure."""
    from components.networks.structures import build

    arrays, meta = read_file(path)
    layers = {}
    for branch, prefix in prefixes(meta).items():
        network = build(structure_of(meta, branch), int(meta["num_classes"]))
        load_state(network, arrays, prefix, origin=str(path))
        network.eval()
        layers[branch] = network
    return Networks(layers, meta)


def load_state(network: "nn.Layer", arrays: Mapping[str, Array], prefix: str, *, origin: str) -> None:
    """Fill every parameter and running statistic from `arrays` under `prefix`; errors name `origin`."""
    for name, tensor in network.state_dict().items():
        array = arrays.get(prefix + name)
        if array is None:
            raise UserError(f"{origin}: no tensor {prefix + name!r}; the weights belong to another structure")
        if array.shape != tuple(tensor.shape):
            raise UserError(
                f"{origin}: tensor {prefix + name!r} has shape {array.shape}, "
                f"but the network needs {tuple(tensor.shape)}"
            )
        tensor.set_value(array)


def checkpoint_meta(  # noqa: PLR0913 - the fields of the metadata, each with its name
    *,
    structure: str,
    right_structure: str = "",
    classes: Sequence[Class],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop: tuple[int, int],
    stride: tuple[int, int],
    longest_side: int = 0,
    run_key: str,
    split: str,
    dataset: str,
    epoch: int,
    step: int,
) -> dict[str, str]:
    """Return the metadata of a checkpoint; `crop` and `stride` are height and width in pixels."""
    return {
        **({RIGHT_STRUCTURE: right_structure} if right_structure not in ("", structure) else {}),
        **({"longest_side": str(longest_side)} if longest_side else {}),
        "structure": structure,
        "num_classes": str(len(classes)),
        "classes": json.dumps([item.model_dump(mode="json") for item in classes]),
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        "crop": json.dumps(crop),
        "stride": json.dumps(stride),
        "run_key": run_key,
        "split": split,
        "dataset": dataset,
        "epoch": str(epoch),
        "step": str(step),
    }
