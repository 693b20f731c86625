"""Containers that run as a restricted pod does, in a network of their own.

CPS_TEST_IMAGES is the command that runs containers, e.g. "podman"; CPS_TEST_NETWORK is the network that they join, as
"ns:PATH". The tests themselves run in that network namespace too, so that what they start is all there is to reach.
"""

import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.storage.settings import StoreSettings

ENGINE = shlex.split(os.environ["CPS_TEST_IMAGES"])
NETWORK = os.environ["CPS_TEST_NETWORK"]
DATA_IMAGE, IMAGE = "localhost/cps-pipeline/data:test", "localhost/cps-pipeline/cps:test"
USER = 65532

Mounts = Mapping[str, Path]
"""Folders and files of this machine, by where they are inside."""


def in_container(
    image: str, *command: str, mounts: Mounts | None = None, store: StoreSettings | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command in an image to its end."""
    environment = store_environment(store) if store else {}
    return subprocess.run(
        [*ENGINE, "run", "--rm", *_options(mounts or {}, environment), image, *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@contextmanager
def container(image: str, command: Sequence[str], mounts: Mounts, environment: Mapping[str, str]) -> Iterator[str]:
    """A server in a container, removed at the end. Yields its name."""
    name = f"server-{secrets.token_hex(4)}"
    start = [*ENGINE, "run", "--detach", "--name", name, *_options(mounts, environment), image, *command]
    subprocess.run(start, env={**os.environ, **environment}, check=True, capture_output=True, timeout=120)
    try:
        yield name
    finally:
        subprocess.run([*ENGINE, "rm", "--force", "--time", "5", name], check=True, capture_output=True, timeout=120)


def logs(name: str) -> str:
    done = subprocess.run([*ENGINE, "logs", name], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def store_environment(store: StoreSettings) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_DEFAULT_REGION": store.region,
        "CPS_BUCKET": store.bucket,
    }


def _options(mounts: Mounts, environment: Mapping[str, str]) -> list[str]:
    options = ["--network", NETWORK, "--user", f"{USER}:{USER}", "--read-only", "--tmpfs", "/tmp:rw,mode=1777"]
    options += ["--cap-drop", "all", "--security-opt", "no-new-privileges"]
    options += ["--memory", "4g", "--ipc", "private", "--shm-size", "512m"]
    options += [word for inside, path in mounts.items() for word in ("--volume", f"{path}:{inside}")]
    # By name only, so that no key stands on a command line.
    return options + [word for name in environment for word in ("--env", name)]
