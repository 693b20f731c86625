"""Fixtures that several parts share: a real object store, and real images where they are at hand."""

import inspect
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from components.errors import UserError
from components.networks import processor
from components.storage.client import Store, connect
from components.storage.settings import StoreSettings, settings_from_environment
from pipeline.local import object_store
from pipeline.local.ports import LOOPBACK, answers, free_internal_ports
from pipeline.local.state import write_identities
from tests.once import Once

REPOSITORY = Path(__file__).parents[1]

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    hands_out = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if config.option.markexpr == "slow" and not hands_out and "paddle" not in sys.modules:
        # As trainings do: without it, networks take the slow path of some processors. It changes the last digits, and
        # with them the curve on record, which is one of the other tests.
        processor.prepare(processes=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    # A shell without job control has what it runs in the background ignore Ctrl-C, which the tests' children inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # kfp asks for all frames with their source to learn one name: half a minute, below so many frames as pytest has.
    inspect.stack = stack_without_source


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What may take longest begins first: at the end, no worker waits for another one's whole run."""
    if config.option.markexpr == "slow":
        items.sort(key=_time_limit, reverse=True)


def _time_limit(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


class OneByOne(LoadScopeScheduling):
    """Hands out test by test, where xdist hands out files; a class, whose tests share a whole run, goes to one worker.

    The marks that xdist has for this do nothing with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        path, *classes, _ = nodeid.partition("[")[0].split("::")
        return "::".join((path, *classes)) if classes else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne | None:
    return OneByOne(config, log) if config.getoption("dist") == "loadscope" else None


def stack_without_source(context: int = 1) -> list[inspect.FrameInfo]:  # noqa: ARG001 - as the original is called
    found, frame = list[inspect.FrameInfo](), sys._getframe(0).f_back
    while frame is not None:
        code = frame.f_code
        found.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return found


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSettings]:
    """A real object store for the whole session: SeaweedFS on free ports, or the one at CPS_TEST_STORE."""
    if address := os.environ.get("CPS_TEST_STORE"):
        yield settings_from_environment({**os.environ, "AWS_ENDPOINT_URL": address})
        return
    folder = tmp_path_factory.mktemp("object-store")
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    identities = folder / "identities.json"
    write_identities(identities, (access_key, secret_key))
    [s3_port] = free_internal_ports(1)
    command = object_store.command(folder, s3_port, object_store.internal_ports(), identities)
    settings = StoreSettings(endpoint=f"http://{LOOPBACK}:{s3_port}", access_key=access_key, secret_key=secret_key)
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_for(settings, s3_port, process, folder / "log")
            yield settings
        finally:
            process.kill()


@pytest.fixture(scope="session")
def without_leases(store_server: StoreSettings) -> str:
    """Why the store at CPS_TEST_STORE, if one is given, is refused for runs; "" if it is not."""
    if not os.environ.get("CPS_TEST_STORE"):
        return ""
    tried = Store(replace(store_server, bucket=f"test-{secrets.token_hex(6)}"))
    try:
        tried.check(writes=True)
    except UserError as error:
        if "when it writes" not in str(error):
            raise
        return str(error)
    finally:
        _remove_bucket(tried)
    return ""


@pytest.fixture
def store(store_server: StoreSettings, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store with a bucket of its own. Skips tests marked `conditional_writes` if the store has none."""
    if request.node.get_closest_marker("conditional_writes") and (why := request.getfixturevalue("without_leases")):
        pytest.skip(why)
    store = Store(replace(store_server, bucket=f"test-{secrets.token_hex(6)}"))
    store.check()
    yield store
    _remove_bucket(store)


def _remove_bucket(store: Store) -> None:
    """Every bucket takes up a volume of the server, whose number is limited."""
    for item in store.list(""):
        store.remove(item.key)
    with urllib3.PoolManager() as pool:
        connect(store.settings, pool).remove_bucket(store.settings.bucket)


@pytest.fixture
def store_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """`store` as the environment names it: for what calls `open_store()`, here or in a child process."""
    environment = {
        "AWS_ENDPOINT_URL": store.settings.endpoint,
        "AWS_ACCESS_KEY_ID": store.settings.access_key,
        "AWS_SECRET_ACCESS_KEY": store.settings.secret_key,
        "AWS_DEFAULT_REGION": store.settings.region,
        "CPS_BUCKET": store.settings.bucket,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture(scope="session")
def by_all(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What is computed once for the tests of all workers."""
    folder = tmp_path_factory.getbasetemp()
    return Once(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The CamVid images with their lists and classes.json."""
    return _at_hand("CPS_TEST_DATA", REPOSITORY.parent / "shared" / "data", "camvid")


@pytest.fixture(scope="session")
def mobilenet_weights() -> Path:
    """MobileNetV2's ImageNet weights as an .npz file."""
    return _at_hand("CPS_TEST_WEIGHTS", REPOSITORY.parent / "shared" / "weights", "mobilenetv2_imagenet.npz")


def _at_hand(variable: str, default: Path, name: str) -> Path:
    path = Path(os.environ.get(variable) or default) / name
    if not path.exists():
        missing = f"no {path}: set {variable} to the folder that has {name}"
        # Where every test must run, a test that was left out is one that failed.
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return path


def _wait_for(settings: StoreSettings, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if answers(port):
            try:
                Store(settings).check()
            except UserError:
                pass
            else:
                return
        time.sleep(0.05)
    pytest.fail(f"the object store did not start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests export and download lies apart from the user's; a test may still set a place of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("CPS_CACHE", str(folder))
        yield folder
