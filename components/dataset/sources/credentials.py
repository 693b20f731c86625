"""Credentials for downloads: read only from the environment, and sent only to the hosts that they are for.

CPS_DOWNLOAD_TOKEN                              sent as a bearer token
CPS_DOWNLOAD_USER, CPS_DOWNLOAD_PASSWORD        or these, as basic authentication
CPS_DOWNLOAD_HOST                               the hosts to send the login to: required for several hosts, or for
                                                one without https
"""

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from components.errors import UserError

TOKEN, USER, PASSWORD = "CPS_DOWNLOAD_TOKEN", "CPS_DOWNLOAD_USER", "CPS_DOWNLOAD_PASSWORD"
HOST = "CPS_DOWNLOAD_HOST"
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Credentials:
    hosts: frozenset[str]
    """As `host` or `host:port`, lower case."""
    _authorization: str = field(repr=False)

    def header(self, url: str) -> str:
        """Return the Authorization header of a request to `url`, or an empty string for any other host."""
        parts = urlsplit(url)
        return self._authorization if {parts.hostname or "", _host_and_port(parts)} & self.hosts else ""


def credentials_for(urls: Iterable[str]) -> Credentials | None:
    """Return the login for http(s) URLs, or None if the environment has none.

    Raises:
        UserError: it is not clear which host the login is for, or it would be sent without encryption. The message
            holds no secret.
    """
    parts = [urlsplit(url) for url in urls if url.startswith(("http://", "https://"))]
    authorization = _authorization()
    if not authorization or not parts:
        return None
    named = frozenset(os.environ.get(HOST, "").lower().replace(",", " ").split())
    if named:
        return Credentials(named, authorization)
    hosts = {_host_and_port(part) for part in parts}
    if len(hosts) > 1:
        raise UserError(f"{' and '.join(sorted(hosts))} are several hosts: set {HOST} to the one that the login is for")
    if any(part.scheme == "http" and part.hostname not in _LOCAL for part in parts):
        raise UserError(
            f"http://{hosts.pop()} would receive the login without encryption: use https://, or set {HOST} to the host"
        )
    return Credentials(frozenset(hosts), authorization)


def _authorization() -> str:
    # A Secret that was created from a file often ends in a newline.
    token, user, password = (os.environ.get(name, "").strip("\r\n") for name in (TOKEN, USER, PASSWORD))
    if token and (user or password):
        raise UserError(f"{TOKEN} and {USER} are both set: remove one of them")
    if bool(user) != bool(password):
        raise UserError(f"{USER if password else PASSWORD} is not set: {USER} and {PASSWORD} are both required")
    if not (token + user + password).isprintable() or ":" in user or not token.isascii():
        raise UserError(f"{TOKEN if token else USER} has a character that cannot be sent: correct it")
    if token:
        return f"Bearer {token}"
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""


def _host_and_port(parts: SplitResult) -> str:
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
