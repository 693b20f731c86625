"""The embedded object store: SeaweedFS in one process, on the loopback interface only."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from components.errors import UserError
from components.extras import not_installed
from pipeline.local.ports import LOOPBACK, free_internal_ports, is_free

PORT = 9000
# The servers in `weed mini`. Each has a fixed default port, which another instance may occupy.
SERVERS = ("master", "volume", "filer", "admin", "s3")
# Fixed: some of the servers expect each other's gRPC port at this offset.
GRPC_OFFSET = 10_000
# Its log message if another program took one of its ports between our check and its start.
PORT_CLASH = "Port allocation failed"


def command(folder: Path, s3_port: int, internal_ports: Mapping[str, int], identities: Path) -> list[str]:
    """Return the command line of a store that keeps its data in `folder`."""
    return [
        weed(),
        "-logtostderr=true",
        "mini",
        f"-dir={folder}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-s3.port={s3_port}",
        f"-s3.config={identities}",
        *(f"-{name}={port}" for name, port in internal_ports.items()),
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        # A master that restores its old state may reject the volume server's first call; the next comes 5 s later.
        "-master.resumeState=false",
    ]


def internal_ports(remembered: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return a port for every port option except S3's: the remembered ports if all of them are free."""
    if remembered and all(map(is_free, remembered.values())):
        return dict(remembered)
    ports = {}
    for server, port in zip(SERVERS, free_internal_ports(len(SERVERS), GRPC_OFFSET), strict=True):
        ports[f"{server}.port"] = port
        ports[f"{server}.port.grpc"] = port + GRPC_OFFSET
    del ports["s3.port"]
    return ports


def weed() -> str:
    """Return the path of the server's program, preferring this Python's environment."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise UserError(f"{not_installed('the embedded object store', 'services')}; or set AWS_ENDPOINT_URL to yours")
    return found
