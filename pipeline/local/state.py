"""State of the embedded services between commands: ports, processes, credentials."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, Field, ValidationError

from components.disk import writing
from components.errors import UserError
from components.files import holding, replacing
from components.storage import keys
from components.storage.settings import DEFAULT_BUCKET
from pipeline.local.processes import ProcessRecord


class ServiceState(BaseModel, frozen=True):
    """A service that was started at least once. After it is stopped, `process` is None; its port stays."""

    port: int
    process: ProcessRecord | None = None
    internal_ports: dict[str, int] = Field(default_factory=dict)
    store_endpoint: str = ""  # of MLflow: where its artifacts go


class State(BaseModel, frozen=True):
    object_store: ServiceState | None = None
    mlflow: ServiceState | None = None


class Home:
    """The state folder of the embedded services, readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.object_store = self.folder / "object-store"
        self.mlflow = self.folder / "mlflow"
        self.logs = self.folder / "logs"
        self.credentials = self.folder / "credentials.json"
        self.reader = self.folder / "weights-reader.ini"
        self._state = self.folder / "services.json"

    def create(self) -> None:
        """Create the folders that do not exist yet. Raises Unwritable."""
        with writing(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.object_store, self.mlflow, self.logs):
                part.mkdir(exist_ok=True)
            ignored = self.folder / ".gitignore"
            if not ignored.exists():
                ignored.write_text("*\n")

    def exists(self) -> bool:
        return self._state.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that lets only one command at a time change the services."""
        with holding(self.folder / "services.lock"):
            yield

    def read(self) -> State:
        try:
            return State.model_validate_json(self._state.read_bytes())
        except FileNotFoundError:
            return State()
        except ValidationError as error:
            raise UserError(f"{self._state} is damaged: stop the servers that it lists, then delete it") from error

    def write(self, state: State) -> None:
        write_private(self._state, state.model_dump_json(indent=1))

    def keys(self) -> tuple[str, str]:
        """Return the access key and the secret key of the embedded store.

        The first call generates them, and those of the identity that may only read weights.
        """
        if not self.credentials.exists():
            write_identities(self.credentials, new_keys(), new_keys())
        try:
            identities = json.loads(self.credentials.read_text())["identities"]
            found = {item["name"]: (_key(item, "accessKey"), _key(item, "secretKey")) for item in identities}
            own = found[OWNER]
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"{self.credentials} is damaged: delete it, then run `cps down && cps up` to create a new one"
            ) from error
        if READER not in found:  # written by an older version; the store reads the new identity at its next start
            found[READER] = new_keys()
            write_identities(self.credentials, own, found[READER])
        profile = PROFILE.format(*found[READER])
        if not self.reader.exists() or self.reader.read_text() != profile:
            write_private(self.reader, profile)
        return own


OWNER = "cps"
READER = "cps-weights-reader"
PROFILE = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
"""The format of AWS_SHARED_CREDENTIALS_FILE, which all S3 tools read."""


def new_keys() -> tuple[str, str]:
    """Return a new access key and secret key."""
    return secrets.token_hex(10), secrets.token_hex(20)


def write_identities(
    path: Path, owner: tuple[str, str], reader: tuple[str, str] | None = None, bucket: str = DEFAULT_BUCKET
) -> None:
    """Write the identities of the store in its own format, readable by their owner only."""
    identities = [_identity(OWNER, owner, ["Admin", "Read", "Write", "List", "Tagging"])]
    if reader is not None:
        below = f"{bucket}/{keys.WEIGHTS}*"
        identities.append(_identity(READER, reader, [f"Read:{below}", f"List:{below}"]))
    write_private(path, json.dumps({"identities": identities}))


class _Identity(TypedDict):
    name: str
    credentials: list[dict[str, str]]
    actions: list[str]


def _identity(name: str, pair: tuple[str, str], actions: list[str]) -> _Identity:
    return {"name": name, "credentials": [{"accessKey": pair[0], "secretKey": pair[1]}], "actions": actions}


def _key(identity: dict[str, list[dict[str, str]]], field: str) -> str:
    return identity["credentials"][0][field]


def write_private(path: Path, text: str) -> None:
    """Write a file atomically; it is never readable by others, not even during the write. Raises Unwritable."""
    with writing(path), replacing(path, private=True) as partial:
        partial.write_text(text)
