"""Unpacking and downloading against what one would use instead, in pairs on the same machine.

python -m tests.benchmarks.bench_sources [pairs]

Ratios are the speed of ours over that of the other; above 1 ours is faster. Ours looks at every name before it writes
the first file, and makes what it downloads durable (fsync) and checks its sha256.
"""

import functools
import hashlib
import http.server
import io
import random
import shutil
import statistics
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import zstandard

from components.dataset.sources.fetch import fetch
from components.dataset.sources.unpack import unpack
from components.storage.client import Store
from components.storage.settings import StoreSettings

FILES, FILE_BYTES = 2000, 60_000
DOWNLOAD_BYTES = 200_000_000
STORE = Store(StoreSettings(endpoint="http://127.0.0.1:9", access_key="a", secret_key="b"))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


def main(pairs: int = 7) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in _archives(folder):
            ours, theirs = functools.partial(_ours, path), functools.partial(_theirs, path)
            _table(f"unpack {path.name} ({FILES} x {FILE_BYTES / 1e3:g} KB)", ours, theirs, folder, pairs)
        (folder / "large.bin").write_bytes(random.Random(1).randbytes(DOWNLOAD_BYTES))
        handler = functools.partial(_Quiet, directory=name)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/large.bin"
            ours = functools.partial(_fetch, url)
            _table("download 200 MB, verified", ours, functools.partial(_urllib, url), folder, pairs)
            server.shutdown()


def _archives(folder: Path) -> list[Path]:
    noise = random.Random(0)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar, zipfile.ZipFile(folder / "a.zip", "w") as zipped:
        for number in range(FILES):
            data = noise.randbytes(FILE_BYTES)
            member = tarfile.TarInfo(f"images/{number:05d}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            zipped.writestr(member.name, data)
    (folder / "a.tar").write_bytes(plain.getvalue())
    (folder / "a.tar.zst").write_bytes(zstandard.compress(plain.getvalue()))
    return [folder / "a.tar", folder / "a.zip", folder / "a.tar.zst"]


def _ours(path: Path, target: Path) -> None:
    unpack(path, target)


def _theirs(path: Path, target: Path) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as zipped:
            zipped.extractall(target)
    elif path.suffix == ".zst":
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            tar.extractall(target, filter="data")
    else:
        with tarfile.open(path) as tar:
            tar.extractall(target, filter="data")


def _fetch(url: str, target: Path) -> None:
    fetch(url, "", target, STORE, "bench")


def _urllib(url: str, target: Path) -> None:
    with urllib.request.urlopen(url) as response, (target / "large.bin").open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
    with (target / "large.bin").open("rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()


def _table(what: str, ours: Callable[[Path], None], theirs: Callable[[Path], None], folder: Path, pairs: int) -> None:
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for pair in range(pairs):
        order = [("ours", ours), ("theirs", theirs)]
        for name, work in order if pair % 2 else order[::-1]:
            target = folder / "out"
            target.mkdir()
            start = time.perf_counter()
            work(target)
            seconds[name].append(time.perf_counter() - start)
            shutil.rmtree(target)
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
    times = ", ".join(f"{name} {statistics.median(values):.2f} s" for name, values in seconds.items())
    print(f"{what}: {statistics.median(ratios):.2f}x ({min(ratios):.2f}–{max(ratios):.2f}), {times}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
