"""Start, find and stop the object store and the MLflow server of this machine."""

import errno
import http.client
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from components import progress
from components.addresses import past_proxies
from components.disk import HOME_VARIABLE, Unwritable, free, setting_of
from components.errors import UserError, WorkFailed
from components.files import abandoned_folders
from components.storage.settings import StoreSettings
from components.tracking.address import EMBEDDED_VARIABLE, TRACKING_VARIABLE
from components.units import size_text
from pipeline.local import object_store, processes, tracking_server
from pipeline.local.ports import LOOPBACK, Reservation, answers, reserve, reserve_from
from pipeline.local.state import Home, ServiceState, State

STORE = "object store"
MLFLOW = "MLflow"
STORE_SECONDS = 60
TRACKING_SECONDS = 180
STARTS = 3
STORE_BYTES = 256 << 20
"""Free bytes without which a new store accepts no objects: each of the two buckets gets a volume of 128 MiB."""
_NO_ROOM = 1 << 20
"""Free bytes below which a full disk is the likeliest reason why a server does not start."""
PLAN, PLAN_SERVICES = "cps-plan-", "services"
"""The prefix of the temporary folder of a `cps plan`, and the folder of its object store in it."""
LAST_WORDS = 500
"""Number of characters to show of a server's last log line; enough for the reason after a long path."""


@dataclass(frozen=True)
class Endpoints:
    """Addresses of the services, and `environment`: the variables that a process needs to use them.

    `s3` is the user's own store if that one is used; `mlflow` is "" without tracking.
    """

    s3: str
    mlflow: str
    environment: dict[str, str] = field(repr=False)  # holds the secret key


@dataclass(frozen=True)
class ServiceStatus:
    """The current state of a service. If it is not running, `address` is "" and `pid` is None."""

    name: str
    address: str
    pid: int | None
    healthy: bool


def services_up(
    home: Path,
    s3_port: int | None = None,
    mlflow_port: int | None = None,
    tracking: bool = True,
    store: StoreSettings | None = None,
) -> Endpoints:
    """Start the services that are not running; return when the object store accepts a PUT.

    MLflow may still be starting on return (see `wait_tracking`). Ports that are not given are those of the last start,
    otherwise the first free ones from 9000 (object store) and 5000 (MLflow). With `store`, no object store is started.
    Raises UserError if a given port is in use or the disk is full, WorkFailed if a server does not start.
    """
    place = Home(home)
    place.create()
    with place.locked():
        settings = store or _object_store_up(place, s3_port)
        mlflow = _mlflow_up(place, mlflow_port, settings, embedded=store is None) if tracking else ""
    environment = {
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "AWS_DEFAULT_REGION": settings.region,
        **(_tracking_variables(mlflow, place) if mlflow else {}),
        **past_proxies(os.environ),
    }
    return Endpoints(settings.endpoint, mlflow, environment)


def wait_tracking(home: Path, seconds: float = TRACKING_SECONDS) -> str:
    """Wait until the MLflow server responds, and return its address.

    A new database takes about half a minute. Raises WorkFailed if the server exits or does not respond in time.
    """
    place = Home(home)
    service = place.read().mlflow
    if service is None or service.process is None:
        raise UserError(f"no MLflow server is running in {place.folder}: start it with `cps up`")
    _wait(MLFLOW, service, _log(place, MLFLOW), lambda: _healthy(service.port, "/health"), seconds)
    return _address(service.port)


def services_down(home: Path) -> None:
    """Stop the running services. Data, ports and credentials stay for the next start."""
    place = Home(home)
    if not place.exists():
        return
    with place.locked():
        state = place.read()
        services = [service for service in (state.mlflow, state.object_store) if service]
        processes.stop([service.process for service in services if service.process])
        with suppress(Unwritable):  # on a full disk, the old record stays, of processes that no longer run
            place.write(State(object_store=_stopped(state.object_store), mlflow=_stopped(state.mlflow)))


def end_killed_plans() -> None:
    """Stop the object stores of `cps plan` commands that were killed, and remove their folders."""
    for folder in abandoned_folders(PLAN, os.environ.get("CPS_WORK")):
        services_down(folder / PLAN_SERVICES)


def services_status(home: Path) -> list[ServiceStatus]:
    """Return the current state of every service that was ever started in this home."""
    state = Home(home).read()
    known = ((STORE, state.object_store, "/healthz"), (MLFLOW, state.mlflow, "/health"))
    return [_status(name, service, path) for name, service, path in known if service]


def running_object_store(home: Path) -> StoreSettings | None:
    """Return the settings of the embedded object store, or None if it is not running."""
    place = Home(home)
    service = place.read().object_store if place.exists() else None
    if service is None or service.process is None or not processes.is_running(service.process):
        return None
    access_key, secret_key = place.keys()
    return StoreSettings(endpoint=_address(service.port), access_key=access_key, secret_key=secret_key)


def known_tracking(home: Path) -> dict[str, str]:
    """Return the variables that name the embedded MLflow server, also if it is not running; empty without one."""
    place = Home(home)
    service = place.read().mlflow if place.exists() else None
    return {} if service is None else _tracking_variables(_address(service.port), place)


def _tracking_variables(address: str, place: Home) -> dict[str, str]:
    return {TRACKING_VARIABLE: address, EMBEDDED_VARIABLE: f"{address} {place.folder}"}


def weights_reader(home: Path) -> Path | None:
    """Return the credentials file of the embedded store's identity that may only read weights, if it exists."""
    reader = Home(home).reader
    return reader if reader.exists() else None


def _stopped(service: ServiceState | None) -> ServiceState | None:
    return service.model_copy(update={"process": None}) if service else None


def _status(name: str, service: ServiceState, path: str) -> ServiceStatus:
    if service.process is None or not processes.is_running(service.process):
        return ServiceStatus(name, "", None, healthy=False)
    return ServiceStatus(name, _address(service.port), service.process.pid, _healthy(service.port, path))


def _object_store_up(place: Home, wanted: int | None) -> StoreSettings:
    access_key, secret_key = place.keys()
    service = place.read().object_store
    if service is None and (room := free(place.folder)) < STORE_BYTES:
        raise UserError(
            f"{place.folder} has only {size_text(room)} free, but the object store needs {size_text(STORE_BYTES)}: "
            f"make room, or set {setting_of(place.folder) or HOME_VARIABLE} to a folder on a larger disk"
        )
    if not _keep(STORE, "--s3-port", service, wanted):
        service = _start_object_store(place, service, wanted)
    assert service is not None
    settings = StoreSettings(endpoint=_address(service.port), access_key=access_key, secret_key=secret_key)
    _wait(STORE, service, _log(place, STORE), lambda: _takes_a_put(settings, service.port), STORE_SECONDS)
    return settings


def _start_object_store(place: Home, before: ServiceState | None, wanted: int | None) -> ServiceState:
    """Start the store; retry with other ports if another program takes one of them first."""
    log = _log(place, STORE)
    for _ in range(STARTS):
        internal = object_store.internal_ports(before.internal_ports if before else None)
        with _reserve(STORE, "--s3-port", before, wanted, object_store.PORT) as reservation:
            command = object_store.command(place.object_store, reservation.port, internal, place.credentials)
            said_before = log.stat().st_size if log.exists() else 0
            process = processes.start(
                command, folder=place.object_store, log=log, environment=_neutral(), inherit=reservation.handle
            )
            service = ServiceState(port=reservation.port, process=process, internal_ports=internal)
            _record(place, "object_store", service)
        while processes.is_running(process) and not answers(service.port):
            time.sleep(0.05)
        if processes.is_running(process) or object_store.PORT_CLASH not in _said_since(log, said_before):
            return service
    raise WorkFailed(f"the object store did not start: its ports were taken {STARTS} times. See {log}")


def _takes_a_put(settings: StoreSettings, port: int) -> bool:
    # Imported here: the SDK takes half a second to import, which commands that find everything running can skip.
    from components.storage.client import Store

    if not answers(port):
        return False
    store = Store(replace(settings, bucket=tracking_server.BUCKET))
    try:
        store.check()
        store.put_bytes(".ready", b"ready")
    except (UserError, WorkFailed):
        return False
    return True


def _mlflow_up(place: Home, wanted: int | None, store: StoreSettings, *, embedded: bool) -> str:
    service = place.read().mlflow
    if _keep(MLFLOW, "--mlflow-port", service, wanted):
        assert service is not None
        if not embedded or service.store_endpoint in ("", store.endpoint):
            return _address(service.port)
        assert service.process is not None
        processes.stop([service.process])  # the store has a new address, which MLflow reads only at start
    with _reserve(MLFLOW, "--mlflow-port", service, wanted, tracking_server.PORT) as reservation:
        artifacts = f"s3://{tracking_server.BUCKET}" if embedded else f"s3://{store.bucket}/{tracking_server.BUCKET}"
        process = processes.start(
            tracking_server.command(reservation.port, artifacts),
            folder=place.mlflow,
            log=_log(place, MLFLOW),
            environment={**_neutral(), **tracking_server.environment(store)},
            inherit=reservation.handle,
        )
        service = ServiceState(
            port=reservation.port, process=process, store_endpoint=store.endpoint if embedded else ""
        )
        _record(place, "mlflow", service)
    return _address(service.port)


def _record(place: Home, name: str, service: ServiceState) -> None:
    """Record a server that was just started. If that fails, stop it, since no other command could find it."""
    try:
        place.write(place.read().model_copy(update={name: service}))
    except BaseException:
        processes.stop([service.process] if service.process else [], grace=0)
        raise


def _keep(name: str, option: str, service: ServiceState | None, wanted: int | None) -> bool:
    """Return whether the service is already running. Stops the remaining children of a killed server."""
    if service is None or service.process is None:
        return False
    if not processes.is_running(service.process):
        processes.stop([service.process])
        return False
    if wanted not in (None, service.port):
        raise UserError(
            f"{name} already runs on port {service.port}: leave out {option} {wanted}, or run `cps down` first"
        )
    return True


def _reserve(name: str, option: str, before: ServiceState | None, wanted: int | None, preferred: int) -> Reservation:
    if wanted is not None:
        reservation = reserve(wanted)
        if reservation is None:
            raise UserError(
                f"port {wanted} is in use: choose another {option} for {name}, or stop the program that uses it"
            )
        return reservation
    if before is None:
        return reserve_from(preferred)
    reservation = reserve(before.port)
    if reservation is None:
        reservation = reserve_from(preferred)
        progress.say("services", f"port {before.port} is in use by another program: {name} moves to {reservation.port}")
    return reservation


def _wait(name: str, service: ServiceState, log: Path, ready: Callable[[], bool], seconds: float) -> None:
    assert service.process is not None
    deadline = time.monotonic() + seconds
    while not ready():
        if not processes.is_running(service.process):
            if free(log) < _NO_ROOM:
                raise Unwritable(log.parents[1], OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), setting_of(log))
            raise WorkFailed(f"{name} exited during startup: {_last_words(log)} (log: {log})")
        if time.monotonic() > deadline:
            raise WorkFailed(f"{name} does not respond at {_address(service.port)} after {seconds:.0f} s. See {log}")
        time.sleep(0.05)


def _healthy(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _address(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _neutral() -> dict[str, str]:
    """Return the environment without variables that would change the settings of the servers."""
    foreign = ("AWS_", "MLFLOW_", "S3_", "WEED_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _log(place: Home, name: str) -> Path:
    return place.logs / f"{name.lower().replace(' ', '-')}.log"


def _said_since(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace")


def _last_words(log: Path) -> str:
    lines = _said_since(log, max(0, log.stat().st_size - 65_536)).split("\n")
    said = [line.strip() for line in lines if line.strip()]
    # Other threads of the store may log after the fatal error, whose line begins with F and the date.
    fatal = [line for line in said if re.match(r"F\d{4} ", line)]
    return (fatal or said)[-1][:LAST_WORDS] if said else "no output"
