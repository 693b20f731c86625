"""HTTP requests that follow redirects and use the proxies set in the environment."""

import base64
import os
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import urllib3

from components.addresses import proxy_of

_TIMEOUT = 60.0  # seconds to connect, and seconds without a byte
# Only redirects are followed here: the caller retries, since it resumes. A redirect to another scheme, host or port
# drops the Authorization header.
_REDIRECTS_ONLY = urllib3.Retry(
    total=None,
    redirect=10,
    connect=False,
    read=False,
    other=False,
    raise_on_redirect=False,
    respect_retry_after_header=False,
)


def get(url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    """Return the response to a GET request, whatever its status, with its body unread.

    Raises urllib3's HTTPError.
    """
    return _manager(proxy_of(url)).request(
        "GET",
        url,
        headers=headers,
        retries=_REDIRECTS_ONLY,
        preload_content=False,
        decode_content=False,
        enforce_content_length=False,  # the caller counts, and resumes from the bytes that it has
    )


class _Direct(urllib3.PoolManager):
    """A pool manager that passes a redirect to another manager if its address needs a different proxy, or none."""

    route = ""

    def urlopen(  # type: ignore[override] # as PoolManager's own
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        # A redirect inherits the Host header that ProxyManager adds, which names the previous host.
        options["headers"] = {name: value for name, value in options["headers"].items() if name != "Host"}
        route = proxy_of(url)
        if route != self.route:
            return _manager(route).urlopen(method, url, redirect=redirect, **options)
        return super().urlopen(method, url, redirect=redirect, **options)


class _Proxied(_Direct, urllib3.ProxyManager):
    def __init__(self, route: str, **options: Any) -> None:
        parts = urlsplit(route)
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        headers = {"Proxy-Authorization": "Basic " + base64.b64encode(login).decode()} if parts.username else None
        super().__init__(route, proxy_headers=headers, **options)
        self.route = route


def _manager(route: str) -> urllib3.PoolManager:
    options: dict[str, Any] = {"ca_certs": os.environ.get("SSL_CERT_FILE") or certifi.where(), "timeout": _TIMEOUT}
    return _Proxied(route, **options) if route else _Direct(**options)
