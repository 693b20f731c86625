"""The embedded object store and MLflow server: one command starts them, and they stay until they are stopped."""

from pipeline.services.lifecycle import (
    Endpoints,
    ServiceStatus,
    services_down,
    services_status,
    services_up,
    wait_tracking,
    weights_reader,
)

__all__ = [
    "Endpoints",
    "ServiceStatus",
    "services_down",
    "services_status",
    "services_up",
    "wait_tracking",
    "weights_reader",
]
