"""The identity that `cps up` makes for those who only want weights, against the embedded store itself."""

import stat
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import urllib3

from components.errors import UserError
from components.runs.stored import find_weights, presigned_link
from components.storage import keys
from components.storage.client import Store
from components.storage.settings import settings_from_environment
from pipeline.local import processes
from pipeline.local.services import services_up, weights_reader
from pipeline.local.state import Home, write_identities

Two = tuple[Store, Store]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    yield folder
    service = Home(folder).read().object_store
    if service and service.process:
        processes.stop([service.process], grace=0)


@pytest.fixture(scope="module")
def stores(home: Path) -> Two:
    """The owner's store, and the same one as the reader sees it."""
    endpoints = services_up(home, tracking=False)
    owner = Store(settings_from_environment(endpoints.environment))
    owner.check()
    file = weights_reader(home)
    assert file is not None
    reader = {"AWS_ENDPOINT_URL": endpoints.s3, "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    owner.put_bytes(keys.best_weights("demo", pair=False), b"weights")
    owner.put_bytes(keys.run("demo", "run.json"), b"{}")
    owner.put_bytes("weights-of-others", b"no")
    return owner, Store(settings_from_environment(reader))


def test_it_pulls_weights(stores: Two, tmp_path: Path) -> None:
    reader = stores[1]
    reader.check()
    found = find_weights(reader, "demo")
    assert reader.get_file(found.key, tmp_path / "best", found.sha256).read_bytes() == b"weights"


def test_it_starts_no_run(stores: Two) -> None:
    with pytest.raises(UserError, match=r"does not allow this key to write to bucket 'cps' \(AccessDenied\)"):
        stores[1].check(writes=True)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda store: store.get_bytes(keys.run("demo", "run.json")),
        lambda store: store.get_bytes("weights-of-others"),
        lambda store: store.list(""),
        lambda store: store.list(keys.RUNS),
        lambda store: store.put_bytes(keys.best_weights("demo", pair=False), b"other"),
        lambda store: store.put_bytes(keys.best_weights("mine", pair=False), b"other"),
        lambda store: store.put_if_absent("lease.json", b"mine"),
        lambda store: store.remove(keys.best_weights("demo", pair=False)),
        lambda store: store.remove(keys.run("demo", "run.json")),
        lambda store: store.get_uri("s3://mlflow/.ready", Path("none")),
    ],
    ids=["read run", "read beside", "list all", "list runs", "overwrite", "write", "lease", "remove", "remove run",
         "other bucket"],
)  # fmt: skip
def test_it_can_do_nothing_else(stores: Two, attempt: Callable[[Store], object]) -> None:
    owner, reader = stores
    before = owner.list("")
    with pytest.raises(UserError, match="AccessDenied"):
        attempt(reader)
    assert owner.list("") == before


def test_its_file_is_for_the_owner_only_and_stays(stores: Two, home: Path) -> None:
    file = home / "weights-reader.ini"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    Home(home).keys()
    assert file.read_text() == before
    assert stores[0].settings.secret_key not in before


def test_a_home_from_before_gets_one(tmp_path: Path) -> None:
    place = Home(tmp_path)
    write_identities(place.credentials, ("owner", "secret"))
    assert place.keys() == ("owner", "secret")
    added = place.reader.read_text()
    assert place.keys() == ("owner", "secret")
    assert place.reader.read_text() == added


def test_a_link_works_without_keys_until_it_expires(stores: Two) -> None:
    owner, reader = stores
    found = find_weights(reader, "demo")
    with urllib3.PoolManager() as pool:
        link = presigned_link(reader, found, timedelta(seconds=2))
        assert pool.request("GET", link).data == b"weights"
        assert pool.request("GET", link.replace("weights/demo", "runs/demo")).status == 403
        deadline = time.monotonic() + 20
        while pool.request("GET", link).status == 200:
            assert time.monotonic() < deadline, "the link does not expire"
            time.sleep(0.2)
        assert pool.request("GET", link).status == 403
    assert owner.get_bytes(found.key) == b"weights"
