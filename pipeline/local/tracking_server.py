"""The embedded MLflow server: runs in an sqlite file, artifacts in the object store, on the loopback interface."""

import sys

from components.storage.settings import StoreSettings
from pipeline.local.ports import LOOPBACK

PORT = 5000
BUCKET = "mlflow"


def command(port: int, artifacts: str) -> list[str]:
    """Return the command line of a server that keeps its database in its working directory.

    `artifacts` is an s3:// URI that only the server writes to; clients upload their artifacts to the server.
    """
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", LOOPBACK, "--port", str(port)),
        *("--workers", "1"),
        # Relative, because a folder's name may contain characters with a meaning in a database URL.
        *("--backend-store-uri", "sqlite:///mlflow.db"),
        *("--artifacts-destination", artifacts),
        *("--uvicorn-opts", "--no-access-log"),
    ]


def environment(store: StoreSettings) -> dict[str, str]:
    """Return the variables with which the server reaches the object store and sends no telemetry."""
    return {
        "MLFLOW_S3_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_DEFAULT_REGION": store.region,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",  # for language models
    }
