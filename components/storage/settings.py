"""Where the object store is and who we are to it, read from the names the ecosystem already uses."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from components.errors import UserError

DEFAULT_BUCKET = "cps"
DEFAULT_REGION = "us-east-1"
REQUIRED = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """An S3 endpoint such as `http://127.0.0.1:9000`, credentials, and the bucket everything is kept in."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = DEFAULT_REGION
    bucket: str = DEFAULT_BUCKET

    def __post_init__(self) -> None:
        _check_endpoint(self.endpoint)
        if not _BUCKET_NAME.fullmatch(self.bucket):
            raise UserError(
                f"CPS_BUCKET={self.bucket!r} is not a bucket name: "
                "use 3 to 63 lower-case letters, digits, dots and hyphens"
            )

    @property
    def secure(self) -> bool:
        return self.endpoint.startswith("https://")

    @property
    def host(self) -> str:
        """Host and port, as the SDK takes them."""
        return urlsplit(self.endpoint).netloc


def settings_from_environment(environ: Mapping[str, str] = os.environ) -> StoreSettings:
    """Read AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and CPS_BUCKET.

    Raises UserError that names what is missing or malformed.
    """
    missing = [name for name in REQUIRED if not environ.get(name)]
    if missing:
        raise UserError(f"the object store is not configured: set {', '.join(missing)}")
    endpoint = environ["AWS_ENDPOINT_URL"]
    _check_endpoint(endpoint)
    return StoreSettings(
        endpoint=endpoint.rstrip("/"),
        access_key=environ["AWS_ACCESS_KEY_ID"],
        secret_key=environ["AWS_SECRET_ACCESS_KEY"],
        region=environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        bucket=environ.get("CPS_BUCKET") or DEFAULT_BUCKET,
    )


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        well_formed = False
    if not well_formed:
        raise UserError(f"AWS_ENDPOINT_URL={endpoint!r} is not an address: write it as http://host:port")
    if parts.username is not None:
        # The value itself is left out: it holds a password.
        raise UserError(
            "AWS_ENDPOINT_URL has a user name in it: credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise UserError(f"AWS_ENDPOINT_URL={endpoint!r} has a path: leave only http://host:port")
