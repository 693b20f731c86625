"""Disk cache of exported network graphs: exporting one takes seconds and needs Paddle; reading one does not.

python -m components.inference.exported STRUCTURE CLASSES HEIGHT WIDTH FILE
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from components.disk import default_cache
from components.errors import UserError, WorkFailed
from components.files import replacing
from components.networks import processor

TOLERANCE = 1e-4
"""Allowed difference from eager Paddle, relative to the largest logit."""
NETWORKS = Path(processor.__file__).parent
NOT_EXPORTABLE = 3
"""Exit code of the exporting process if another attempt would fail in the same way."""


class NotExportable(WorkFailed):
    """The structure cannot be exported, now or later."""


def skeleton(structure: str, num_classes: int, size: tuple[int, int]) -> bytes:
    """Return the structure's ONNX graph without weights, for windows of `size` (height, width); export on a cache miss.

    Raises WorkFailed if the structure cannot be exported or the graph's logits differ from eager Paddle's. The reason
    is cached too, so that further checkpoints do not try again.
    """
    slug = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in structure)
    name = f"{slug}-{num_classes}-{size[0]}x{size[1]}-{_version()}.onnx"
    path = cache_folder() / name
    failure = path.with_suffix(".failed.txt")
    with contextlib.suppress(OSError):
        return path.read_bytes()
    with contextlib.suppress(OSError):
        raise WorkFailed(f"{failure.read_text()} (remove {failure} to try again)")
    with tempfile.TemporaryDirectory(prefix="cps-export-") as folder:
        exported = Path(folder, "network.onnx")
        try:
            _export(structure, num_classes, size, exported)
        except NotExportable as error:
            _keep(str(error).encode(), failure)
            raise
        data = exported.read_bytes()
    _keep(data, path)
    return data


def cache_folder() -> Path:
    """Return engines/ in the cache, beside the cached datasets."""
    return default_cache() / "engines"


@lru_cache(maxsize=1)
def _version() -> str:
    """Return a hash of everything an export depends on: the networks' code, Paddle and the exporter."""
    digest = hashlib.sha256()
    for path in sorted(NETWORKS.glob("*.py")):
        digest.update(path.read_bytes())
    for package in ("paddlepaddle", "paddlepaddle-gpu", "paddleseg", "paddle2onnx"):
        try:
            digest.update(f"{package} {version(package)}".encode())
        except PackageNotFoundError:
            continue
    return digest.hexdigest()[:12]


def _keep(data: bytes, path: Path) -> None:
    """Write `data` atomically. If the cache is not writable, the next process exports again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, private=True) as partial:
            partial.write_bytes(data)
    except OSError:
        return


def _export(structure: str, num_classes: int, size: tuple[int, int], path: Path) -> None:
    """Export in a separate process, which keeps Paddle out of the caller, unless Paddle already runs here on the CPU.

    The comparison needs the CPU: on a GPU, TF32 rounds the logits to three digits.
    """
    if "paddle" in sys.modules and device() == "cpu":
        write(structure, num_classes, size, path)
        return
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "components.inference.exported", structure, str(num_classes), *map(str, size)]
    done = subprocess.run(
        [*command, str(path)],
        # Paddle writes to the home folder, which may be read-only or full; this folder is removed afterwards.
        env={**os.environ, "PYTHONPATH": paths, "HOME": str(path.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode < 0:
        ended_by = signal.Signals(-done.returncode).name
        raise WorkFailed(f"the export of {structure} to ONNX was stopped by {ended_by}: run the same command again")
    if done.returncode == NOT_EXPORTABLE:
        raise NotExportable(_last_line(done.stderr))
    if done.returncode or not path.exists():
        raise WorkFailed(_failed(structure, done.stderr))


def device() -> str:
    """Return the device that Paddle uses in this process, such as cpu or gpu:0."""
    import paddle

    name: str = paddle.device.get_device()
    return name


def _failed(structure: str, text: str) -> str:
    return f"{structure} cannot be exported to ONNX: {_last_line(text) or 'the exporter gave no reason'}"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def write(structure: str, num_classes: int, size: tuple[int, int], path: Path) -> None:
    """Export in this process and compare one window with eager Paddle.

    Raises:
        NotExportable: the exporter refuses the network, or the logits differ.
        WorkFailed: the disk or the memory is full.
        UserError: the structure is unknown.
    """
    try:
        _write(structure, num_classes, size, path)
    except (UserError, WorkFailed):
        raise
    except (OSError, MemoryError) as error:
        raise WorkFailed(_failed(structure, str(error))) from error
    except Exception as error:  # Paddle and the exporter raise exceptions of many types
        raise NotExportable(_failed(structure, str(error))) from error


def _write(structure: str, num_classes: int, size: tuple[int, int], path: Path) -> None:
    import numpy as np
    import paddle

    from components.inference.sessions import installed_runtimes, open_session
    from components.networks.export import export
    from components.networks.onnx_graph import fill
    from components.networks.weights import state_arrays

    data, network = export(structure, num_classes, size)
    window = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
    with paddle.no_grad():
        expected = network(paddle.to_tensor(window)).numpy()
    model = fill(data, {"only": state_arrays(network)}, origin=structure)
    found = open_session(installed_runtimes()[0], model).run(window)[0]
    difference = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not difference <= TOLERANCE:
        raise NotExportable(
            f"{structure}: the exported network's logits differ from Paddle's by {difference:.1e} of the largest logit "
            f"(limit {TOLERANCE:.0e})"
        )
    path.write_bytes(data)


def main(arguments: list[str]) -> None:
    structure, num_classes, height, width, path = arguments
    processor.prepare()
    import paddle

    paddle.set_device("cpu")
    try:
        write(structure, int(num_classes), (int(height), int(width)), Path(path))
    except NotExportable as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_EXPORTABLE)


if __name__ == "__main__":
    main(sys.argv[1:])
