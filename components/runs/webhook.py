"""One JSON document to one address, which nothing here shows: whoever has it may write there."""

import http.client
import time
import urllib.error
import urllib.request
from typing import Any

from components.errors import WorkFailed

TIMEOUT_SECONDS = 5.0
PAUSE_SECONDS = 1.0
_TRY_AGAIN = (429, 500, 502, 503, 504)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is for one address is not sent to another; a redirect is an answer like any other."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        return None


def post(address: str, document: bytes, attempts: int = 2) -> None:
    """POST a JSON document, once more where it surely did not arrive.

    Raises WorkFailed with what went wrong, without the address.
    """
    if not address.startswith(("https://", "http://")):
        raise WorkFailed("its address is not one of http(s)://")
    headers = {"Content-Type": "application/json", "User-Agent": "cps-pipeline"}
    for left in reversed(range(attempts)):
        try:
            _send(urllib.request.Request(address, document, headers, method="POST"))
            return
        except _NotTaken as reason:
            if not left or not reason.again:
                raise WorkFailed(str(reason)) from None
        time.sleep(PAUSE_SECONDS)


class _NotTaken(Exception):
    def __init__(self, text: str, *, again: bool) -> None:
        super().__init__(text)
        self.again = again


def _send(request: urllib.request.Request) -> None:
    try:
        urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise _NotTaken(f"HTTP {error.code}", again=error.code in _TRY_AGAIN) from None
    except urllib.error.URLError as error:
        # Before the request was sent. Texts of other errors may quote the address.
        reason = error.reason.strerror if isinstance(error.reason, OSError) else None
        raise _NotTaken(reason or type(error.reason).__name__, again=True) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _NotTaken(type(error).__name__, again=False) from None
