"""Addresses for people, where those that the steps use mean nothing outside the cluster.

CPS_PUBLIC_S3_URL is where a browser reaches the object store (https://host, and below it bucket/key);
CPS_PUBLIC_MLFLOW_URL is where it reaches MLflow. They only make links: nothing is fetched through them.
"""

import os
from urllib.parse import quote

S3_VARIABLE = "CPS_PUBLIC_S3_URL"
MLFLOW_VARIABLE = "CPS_PUBLIC_MLFLOW_URL"


def object_link(uri: str) -> str:
    """Where a person finds the object that `uri` (s3://bucket/key) names; empty where there is no such address."""
    base = _address(S3_VARIABLE)
    if not base or not uri.startswith("s3://"):
        return ""
    return f"{base}/{quote(uri.removeprefix('s3://'))}"


def tracking_link(address: str, page: str) -> str:
    """A page of MLflow ("#/experiments/…") at the address for people, else at `address`; empty where that is none."""
    base = _address(MLFLOW_VARIABLE) or (address.rstrip("/") if address.startswith("http") else "")
    return f"{base}/{page}" if base and page else ""


def _address(variable: str) -> str:
    """Without a slash at its end; what is no web address is as good as none, since a link is worth no failure."""
    text = os.environ.get(variable, "").strip().rstrip("/")
    return text if text.startswith(("http://", "https://")) else ""
