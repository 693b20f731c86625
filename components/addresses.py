"""Addresses of services: their login, and the proxies that the environment sets for them."""

from collections.abc import Mapping
from urllib.parse import urlsplit

_THIS_MACHINE = ("127.0.0.1", "localhost")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def without_login(address: str) -> str:
    """Return an address without a user name and a password, so that it may be shown and stored."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else address


def proxy_of(url: str) -> str:
    """Return the URL of the proxy for `url`, or an empty string for a direct connection."""
    from urllib.request import getproxies, proxy_bypass  # takes 40 ms, which `cps --help` need not wait for

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def through_proxy(url: str) -> str:
    """Return ` through the proxy http://host:port`, for a message about `url`, or an empty string."""
    proxy = proxy_of(url)
    return f" through the proxy {without_login(proxy)}" if proxy else ""


def past_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables that make clients bypass the proxies in `environ` for this machine."""
    if not any(name.lower() in _PROXIES for name in environ):
        return {}
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = [host for host in exempt.split(",") if host]
    value = ",".join(dict.fromkeys([*hosts, *_THIS_MACHINE]))
    return {"NO_PROXY": value, "no_proxy": value}
