"""Back up database files to the object store and keep the newest copies.

    backup.py --bucket mlflow-backups --keep 14 /data/mlflow.db
    backup.py --bucket mlflow-backups --restore mlflow.db/2026-01-31T02-17-00Z /data/mlflow.db

An SQLite database is copied as a consistent snapshot while its server keeps running; any other file is copied as it is.
Runs in the data image, whose store client records and verifies a sha256. Exit codes: 0 done, 1 failed, 2 invalid input.
"""

import argparse
import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from components.errors import UserError, WorkFailed
from components.storage.client import Store
from components.storage.settings import settings_from_environment

SQLITE = b"SQLite format 3\0"
TIME = "%Y-%m-%dT%H-%M-%SZ"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--keep", type=int, default=14, help="copies to keep of each file; older ones are deleted")
    parser.add_argument("--restore", metavar="KEY", help="write this copy to FILE, which must not exist")
    options = parser.parse_args(arguments)
    try:
        if options.keep < 1:
            raise UserError(f"--keep {options.keep}: must be at least 1")
        store = Store(replace(settings_from_environment(), bucket=options.bucket))
        store.check()
        if options.restore:
            [path] = options.files
            restore(store, options.restore, path)
        else:
            for path in options.files:
                back_up(store, path, options.keep)
    except (UserError, WorkFailed, OSError, sqlite3.Error) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


def back_up(store: Store, path: Path, keep: int) -> str:
    """Store a copy of one file, then delete all but the newest `keep`. Returns the key of the copy."""
    if not path.is_file():
        raise UserError(f"{path} is not a file, so there is nothing to back up")
    key = f"{path.name}/{datetime.now(UTC).strftime(TIME)}"
    with tempfile.TemporaryDirectory() as folder:
        copy = path
        if path.open("rb").read(len(SQLITE)) == SQLITE:
            copy = Path(folder) / path.name
            _copy_sqlite(path, copy)
        stored = store.put_file(key, copy)
    print(f"backup: {stored.uri}, {stored.size} bytes, sha256 {stored.sha256}")
    for old in store.list(f"{path.name}/")[:-keep]:
        store.remove(old.key)
        print(f"backup: deleted {old.uri}")
    return key


def restore(store: Store, key: str, path: Path) -> None:
    """Write a copy to `path`. The file appears complete and verified, or not at all."""
    if path.exists():
        raise UserError(f"{path} already exists: stop its server and move the file away first")
    store.get_file(key, path, durable=True)
    print(f"backup: restored {store.uri(key)} to {path}")


def _copy_sqlite(path: Path, copy: Path) -> None:
    # Not opened read-only: SQLite may have to recover a transaction that a killed server left unfinished.
    with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        [(found,)] = target.execute("PRAGMA integrity_check(1)").fetchall()
    if found != "ok":
        raise WorkFailed(f"{path} is damaged ({found}): stored no copy, and kept the older ones")


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
