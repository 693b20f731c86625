"""Post a JSON document to a secret URL. No error shows the URL, because anyone who knows it can post there."""

import http.client
import time
import urllib.error
import urllib.request
from typing import Any

from components.errors import WorkFailed

TIMEOUT_SECONDS = 5.0
PAUSE_SECONDS = 1.0
_RETRIED_STATUSES = (429, 500, 502, 503, 504)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects, so the document is sent to no other address; a redirect counts as an HTTP error."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        return None


def post(address: str, document: bytes, attempts: int = 2) -> None:
    """POST a JSON document, and retry only if it certainly did not arrive.

    Raises:
        WorkFailed: the reason, without the URL.
    """
    if not address.startswith(("https://", "http://")):
        raise WorkFailed("the URL does not start with http:// or https://")
    headers = {"Content-Type": "application/json", "User-Agent": "cps-pipeline"}
    for left in reversed(range(attempts)):
        try:
            _send(urllib.request.Request(address, document, headers, method="POST"))
            return
        except _PostFailed as reason:
            if not left or not reason.retry:
                raise WorkFailed(str(reason)) from None
        time.sleep(PAUSE_SECONDS)


class _PostFailed(Exception):
    def __init__(self, text: str, *, retry: bool) -> None:
        super().__init__(text)
        self.retry = retry


def _send(request: urllib.request.Request) -> None:
    try:
        urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise _PostFailed(f"HTTP {error.code}", retry=error.code in _RETRIED_STATUSES) from None
    except urllib.error.URLError as error:
        # Raised before the request was sent. The texts of other errors may quote the URL.
        reason = error.reason.strerror if isinstance(error.reason, OSError) else None
        raise _PostFailed(reason or type(error.reason).__name__, retry=True) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _PostFailed(type(error).__name__, retry=False) from None
