"""The endpoint and the credentials of the object store, from the usual AWS variables and files."""

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from components.errors import UserError

DEFAULT_BUCKET = "cps"
DEFAULT_REGION = "us-east-1"
STYLES = ("path", "virtual", "auto")

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
S3_VARIABLE = "CPS_PUBLIC_S3_URL"


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """An S3 endpoint such as `http://127.0.0.1:9000`, credentials, and the bucket for all objects."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    region: str = DEFAULT_REGION
    bucket: str = DEFAULT_BUCKET
    addressing: str = "auto"
    """`path` (host/bucket/key), `virtual` (bucket.host/key), or `auto`: virtual on AWS, path elsewhere."""
    authorities: str = ""
    """A PEM file of the trusted certificate authorities, or an empty string for the default ones."""

    def __post_init__(self) -> None:
        _check_endpoint(self.endpoint)
        if not _BUCKET_NAME.fullmatch(self.bucket):
            raise UserError(
                f"CPS_BUCKET={self.bucket!r} is not a bucket name: "
                "use 3 to 63 lower-case letters, digits, dots and hyphens"
            )
        if self.addressing not in STYLES:
            raise UserError(f"AWS_S3_ADDRESSING_STYLE={self.addressing!r} is not one of {', '.join(STYLES)}")
        if self.authorities and not Path(self.authorities).is_file():
            raise UserError(f"AWS_CA_BUNDLE={self.authorities!r} is not a file: name a file of PEM certificates")

    @property
    def secure(self) -> bool:
        return self.endpoint.startswith("https://")

    @property
    def host(self) -> str:
        """Host and port, for the SDK."""
        return urlsplit(self.endpoint).netloc


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def settings_from_environment(environ: Mapping[str, str] = os.environ) -> StoreSettings:
    """Read AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_CA_BUNDLE, AWS_S3_ADDRESSING_STYLE, CPS_BUCKET, and the keys.

    The keys come from the first of these that has them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the files that
    AWS_ACCESS_KEY_ID_FILE and AWS_SECRET_ACCESS_KEY_FILE name, such as a mounted Kubernetes Secret; the profile
    AWS_PROFILE (default: `default`) in AWS_SHARED_CREDENTIALS_FILE (default: ~/.aws/credentials).

    Raises UserError, which names the missing or malformed setting.
    """
    endpoint = environ.get("AWS_ENDPOINT_URL") or environ.get("AWS_ENDPOINT_URL_S3")
    credentials = _credentials(environ)
    missing = [] if endpoint else ["AWS_ENDPOINT_URL"]
    if credentials is None:
        missing += [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not _value(environ, name)]
    if missing or endpoint is None or credentials is None:
        raise UserError(f"the object store is not configured: set {', '.join(missing)}")
    _check_endpoint(endpoint)
    return StoreSettings(
        endpoint=endpoint.rstrip("/"),
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.session_token,
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        bucket=environ.get("CPS_BUCKET") or DEFAULT_BUCKET,
        addressing=(environ.get("AWS_S3_ADDRESSING_STYLE") or "auto").lower(),
        authorities=environ.get("AWS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or "",
    )


def _credentials(environ: Mapping[str, str]) -> Credentials | None:
    given = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if _value(environ, name)]
    if len(given) == 2:
        access_key, secret_key, token = (
            _value(environ, name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        )
        return Credentials(access_key, secret_key, token)
    # Half of a pair is a mistake to report, not a reason to use a profile.
    return None if given else _profile(environ)


def _value(environ: Mapping[str, str], name: str) -> str:
    """Return the variable, or the content of the file that NAME_FILE names, or an empty string."""
    if value := environ.get(name):
        return value
    path = environ.get(f"{name}_FILE")
    if not path:
        return ""
    try:
        value = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{name}_FILE={path!r} cannot be read: {why}") from None
    if not value:
        raise UserError(f"{name}_FILE={path!r} is empty: mount the secret's field there")
    return value


def _profile(environ: Mapping[str, str]) -> Credentials | None:
    """Return the profile from the shared credentials file, or None if none is configured."""
    named, profile = environ.get("AWS_SHARED_CREDENTIALS_FILE"), environ.get("AWS_PROFILE")
    home = environ.get("HOME")
    if not named and not home:
        return None
    path = Path(named) if named else Path(str(home)) / ".aws" / "credentials"
    parser = configparser.RawConfigParser()
    try:
        with path.open() as file:
            parser.read_file(file)
    except FileNotFoundError:
        if named:
            raise UserError(f"AWS_SHARED_CREDENTIALS_FILE={named!r} does not exist") from None
        return None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # The parser's own message quotes the line, which may hold a secret.
        why = getattr(error, "strerror", None) or "it is not an AWS credentials file"
        raise UserError(f"{path} cannot be read: {why}") from None
    section = profile or "default"
    found = parser[section] if parser.has_section(section) else {}
    try:
        return Credentials(
            found["aws_access_key_id"], found["aws_secret_access_key"], found.get("aws_session_token", "")
        )
    except KeyError as error:
        if not named and not profile:
            return None
        raise UserError(
            f"profile {section!r} of {path} has no {error.args[0]}: set AWS_PROFILE, or correct the file"
        ) from None


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, unbalanced brackets
        well_formed = False
    if not well_formed:
        raise UserError(f"AWS_ENDPOINT_URL={endpoint!r} is not an address: write it as http://host:port")
    if parts.username is not None:
        # Without the value, which holds a password.
        raise UserError(
            "AWS_ENDPOINT_URL has a user name in it: credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise UserError(f"AWS_ENDPOINT_URL={endpoint!r} has a path: leave only http://host:port")


def object_link(uri: str) -> str:
    """Return the web address of the object at `uri` (s3://bucket/key), or "" if CPS_PUBLIC_S3_URL is not set."""
    base = public_address(S3_VARIABLE)
    if not base or not uri.startswith("s3://"):
        return ""
    return f"{base}/{quote(uri.removeprefix('s3://'))}"


def public_address(variable: str) -> str:
    """Return the web address in a variable, without a trailing slash, or "" if the variable holds none.

    An invalid value is ignored, since a missing link must not fail a run.
    """
    text = os.environ.get(variable, "").strip().rstrip("/")
    return text if text.startswith(("http://", "https://")) else ""
