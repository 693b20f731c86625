"""Storage against the SDK by itself, in pairs: small files, a checkpoint, random reads, memory.

python -m tests.benchmarks.bench_storage [small] [checkpoint] [reads] [memory] [--rounds 15] [--gigabytes 20]
"""

import argparse
import io
import itertools
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from components.contract import Class
from components.dataset.check.inspect import hash_files
from components.dataset.classes import Declared
from components.dataset.layouts import Layout
from components.dataset.manifest import Lists, content_digest
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.store import _store
from components.storage.client import Store
from tests.benchmarks.measure import object_store, paired

FILES, FILE_SIZE = 3000, 60_000
CHECKPOINT_SIZE = 200 << 20


def small_files(store: Store, folder: Path, options: argparse.Namespace) -> None:
    """Files as a dataset, up and read back through the cache, against one object each."""
    names = make_files(folder / "files", FILES, FILE_SIZE)
    minio, bucket, number = store._client, store.settings.bucket, itertools.count()
    stored: list[str] = []

    def up() -> None:
        stored.append(store_files(folder / "files", names, store, next(number)))

    def up_one_by_one() -> None:
        for name in names:
            data = (folder / "files" / name).read_bytes()
            minio.put_object(bucket, f"one/{name}", io.BytesIO(data), len(data))

    def down() -> None:
        cache = Path(tempfile.mkdtemp(dir=folder))
        with DatasetReader(store, stored[-1], cache) as reader:
            for name in names:
                assert len(reader.read(name)) == FILE_SIZE

    def down_one_by_one() -> None:
        for name in names:
            response = minio.get_object(bucket, f"one/{name}")
            assert len(response.read()) == FILE_SIZE
            response.close()
            response.release_conn()

    paired(f"{FILES} files of 60 KB up", up, up_one_by_one, rounds=options.rounds, goal=3)
    paired(f"{FILES} files of 60 KB down and read", down, down_one_by_one, rounds=options.rounds, goal=3)


def checkpoint(store: Store, folder: Path, options: argparse.Namespace) -> None:
    """A 200 MB file with its sha256 recorded and verified, against the SDK's bare transfer."""
    source, minio, bucket, number = folder / "checkpoint", store._client, store.settings.bucket, itertools.count()
    source.write_bytes(random.randbytes(CHECKPOINT_SIZE))

    def removed(prefix: str) -> None:
        """What a round has written goes, so that the disk is no busier in the last round than in the first."""
        for ref in store.list(prefix):
            store.remove(ref.key)
        for path in folder.glob("copy-*"):
            path.unlink()
        os.sync()

    up = paired(
        "200 MB up, sha256 recorded and checked",
        lambda: store.put_file(f"up/{next(number)}", source),
        lambda: minio.fput_object(bucket, f"up/{next(number)}", str(source)),
        rounds=options.rounds,
        goal=0.9,
        between=lambda: removed("up/"),
    )
    store.put_file("checkpoint", source)
    down = paired(
        "200 MB down, sha256 verified",
        lambda: store.get_file("checkpoint", folder / f"copy-{next(number)}"),
        lambda: minio.fget_object(bucket, "checkpoint", str(folder / f"copy-{next(number)}")),
        rounds=options.rounds,
        goal=0.75,
        between=lambda: removed("up/"),
    )
    print(f"{'':<44} {100 * up:.0f} % of fput_object, {100 * down:.0f} % of fget_object")


def random_reads(store: Store, folder: Path, options: argparse.Namespace) -> None:
    """Files in random order, from a cached shard and from a folder of plain files."""
    names = make_files(folder / "plain", FILES, FILE_SIZE)
    digest = store_files(folder / "plain", names, store)
    order = random.sample(names, len(names))
    with DatasetReader(store, digest, folder / "reads") as reader:
        paired(
            f"{FILES} random reads of 60 KB",
            lambda: [reader.read(name) for name in order],
            lambda: [(folder / "plain" / name).read_bytes() for name in order],
            rounds=options.rounds,
            goal=0.9,
        )


def memory(store: Store, _: Path, options: argparse.Namespace) -> None:
    """The most memory that storing much sparse data takes, in a process of its own."""
    size = int(options.gigabytes * 1e9)
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": store.settings.endpoint,
        "AWS_ACCESS_KEY_ID": store.settings.access_key,
        "AWS_SECRET_ACCESS_KEY": store.settings.secret_key,
        "CPS_BUCKET": store.settings.bucket,
    }
    command = [sys.executable, "-m", "tests.benchmarks.bench_storage", "--store-sparse", str(size)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    peak = int(done.stdout.split()[-1])
    verdict = "reached" if peak < 500 else "MISSED"
    print(f"{f'memory, {size / 1e9:.1f} GB of sparse files stored':<44} {peak} MB  goal under 500 MB {verdict}")


def store_sparse(size: int) -> None:
    """Files of 1 GB and of 100 MB, stored as a dataset; prints the peak of the process's memory in MB."""
    from components.storage.client import open_store

    with tempfile.TemporaryDirectory(prefix="sparse-") as name:
        folder, names = Path(name), list[str]()
        while size > 0:
            each = (1 << 30) if len(names) % 2 else 100_000_000
            names.append(f"{len(names):04d}.bin")
            with (folder / names[-1]).open("wb") as file:
                file.truncate(min(each, size))
            size -= each
        store_files(folder, names, open_store())
    print(peak_memory())


def peak_memory() -> int:
    """Of this process, in MB. getrusage's would count what the process that started this one had, too."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 // 1_000_000


def store_files(folder: Path, names: list[str], store: Store, version: int = 0) -> str:
    """Hash and store files as a dataset, without looking for pictures in them; its digest. Each version is new."""
    classes = (Class(name=f"version {version}", color=(0, 0, 0)),)
    lists = Lists(classes=classes, train=(), val=(), unlabeled=tuple(names))
    layout = Layout(kind="lists", name="files", folder=folder, lists=lists, declared=Declared(classes, 255, {0: 0}))
    hashes = hash_files(layout)
    return _store(layout, hashes, {}, content_digest(hashes, lists), store).digest


def make_files(folder: Path, count: int, size: int) -> list[str]:
    folder.mkdir()
    names = [f"{number:05d}.bin" for number in range(count)]
    for name in names:
        (folder / name).write_bytes(random.randbytes(size))
    return names


def main() -> None:
    works = {"small": small_files, "checkpoint": checkpoint, "reads": random_reads, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "works", nargs="*", choices=[*works, "all"], default="all", metavar="work", help=", ".join(works)
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--gigabytes", type=float, default=4, help="of sparse files, which the store does write out")
    parser.add_argument("--store-sparse", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.store_sparse:
        store_sparse(options.store_sparse)
        return
    with object_store() as store, tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for name in works if "all" in options.works else options.works:
            works[name](store, Path(folder), options)


if __name__ == "__main__":
    main()
