"""A login for downloads. It comes by the environment alone, and goes to the host it is meant for alone.

CPS_DOWNLOAD_TOKEN                              sent as a bearer token
CPS_DOWNLOAD_USER, CPS_DOWNLOAD_PASSWORD        or these, as basic authentication
CPS_DOWNLOAD_HOST                               the hosts they are for, where the sources lie on several, or on
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
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Credentials:
    hosts: frozenset[str]
    """As `host` or `host:port`, lower case."""
    _authorization: str = field(repr=False)

    def header(self, url: str) -> str:
        """What the Authorization header of a request to `url` is; empty for a host it is not meant for."""
        parts = urlsplit(url)
        return self._authorization if {parts.hostname or "", _place(parts)} & self.hosts else ""


def credentials_for(urls: Iterable[str]) -> Credentials | None:
    """The login that the environment has for http(s) addresses; None where it has none.

    Raises:
        UserError: it is not clear which host it is for, or it would travel in the clear. Never says a secret.
    """
    parts = [urlsplit(url) for url in urls if url.startswith(("http://", "https://"))]
    authorization = _authorization()
    if not authorization or not parts:
        return None
    named = frozenset(os.environ.get(HOST, "").lower().replace(",", " ").split())
    if named:
        return Credentials(named, authorization)
    hosts = {_place(part) for part in parts}
    if len(hosts) > 1:
        raise UserError(f"{' and '.join(sorted(hosts))} are several hosts: name the one the login is for in {HOST}")
    if any(part.scheme == "http" and part.hostname not in _HERE for part in parts):
        raise UserError(
            f"http://{hosts.pop()} would get the login in the clear: use https://, or name the host in {HOST}"
        )
    return Credentials(frozenset(hosts), authorization)


def _authorization() -> str:
    # A Secret that was made from a file often ends with its newline.
    token, user, password = (os.environ.get(name, "").strip("\r\n") for name in (TOKEN, USER, PASSWORD))
    if token and (user or password):
        raise UserError(f"{TOKEN} and {USER} are both set: leave one of them out")
    if bool(user) != bool(password):
        raise UserError(f"{USER if password else PASSWORD} is not set: {USER} and {PASSWORD} go together")
    if not (token + user + password).isprintable() or ":" in user or not token.isascii():
        raise UserError(f"{TOKEN if token else USER} has a character that cannot be sent: set it again")
    if token:
        return f"Bearer {token}"
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""


def _place(parts: SplitResult) -> str:
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
