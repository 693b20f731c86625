"""Errors of the object store, each one line that says where it failed and what to do."""

import time
from email.utils import parsedate_to_datetime

import urllib3
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from components.errors import UserError, WorkFailed
from components.units import seconds_text

REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
SKEWED = "RequestTimeTooSkewed"
TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # a bit flipped in transit
        "ConditionalRequestConflict",
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "XAmzContentSHA256Mismatch",  # how MinIO and AWS report a flipped bit of a body that was signed
        "XMinioServerNotInitialized",
    }
)


class SourceFailed(Exception):
    """The data to upload cannot be read. Not an OSError, which a client would retry as a broken connection."""


# The errors that an SDK call raises. ValueError and SyntaxError come from a response that is not S3's XML.
STORE_ERRORS = (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError, SyntaxError, SourceFailed)


class MissingObject(WorkFailed):
    """No object exists at this URI."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"no object at {uri}")
        self.uri = uri


class DigestMismatch(WorkFailed):
    """An object's bytes are not those that were stored. The downloaded bytes have been discarded."""

    def __init__(self, uri: str, expected: str, found: str) -> None:
        super().__init__(f"{uri} is damaged or was replaced: expected sha256 {expected}, found {found}")
        self.uri = uri
        self.expected = expected
        self.found = found


class NoAnswer(UserError):
    """The object store does not answer the first request: its address may be wrong."""


class StoreUnreachable(WorkFailed):
    """The object store stopped responding, and all retries failed."""


def is_transient(error: Exception) -> bool:
    """Return whether the same request may succeed if it is retried."""
    if isinstance(error, S3Error):
        return error.code in TRANSIENT_CODES or error.response.status >= 500
    if isinstance(error, InvalidResponseError):
        return int(error._code) >= 500  # noqa: SLF001 - the SDK keeps the status only there
    if isinstance(error, ServerError):
        return int(error.status_code) >= 500
    return isinstance(error, urllib3.exceptions.HTTPError)


def explain(error: Exception, doing: str, uri: str, endpoint: str) -> Exception:
    """Turn an SDK error that was raised while `doing` ("reading", "writing" …) `uri` into one of ours."""
    if isinstance(error, S3Error):
        return _explain_answer(error, doing, uri, endpoint)
    if isinstance(error, urllib3.exceptions.HTTPError):
        return StoreUnreachable(f"the object store at {endpoint} does not answer ({reason(error)}) while {doing} {uri}")
    return WorkFailed(f"{doing} {uri} at {endpoint} failed: {reason(error)}")


def clock_skew(answer: urllib3.BaseHTTPResponse) -> float:
    """Return the seconds by which this machine's clock is ahead of the server that just answered; 0 if unknown."""
    try:
        return time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return 0.0


def wrong_clock(answer: urllib3.BaseHTTPResponse, endpoint: str) -> UserError:
    """Return the error for a clock that differs too much from the object store's."""
    skew = clock_skew(answer)
    seconds = abs(skew) if abs(skew) < 120 else round(abs(skew) / 60) * 60  # the answer's time is in whole seconds
    differs = f"is {seconds_text(seconds)} {'ahead of' if skew > 0 else 'behind'}" if skew else "differs from"
    return UserError(
        f"this machine's clock {differs} the object store's at {endpoint}: set the clock, for example with NTP"
    )


def _explain_answer(error: S3Error, doing: str, uri: str, endpoint: str) -> Exception:
    if error.code in ("NoSuchKey", "NoSuchBucket"):
        return MissingObject(uri)
    if error.code == SKEWED:
        return wrong_clock(error.response, endpoint)
    if error.code in REFUSED:
        return UserError(
            f"the object store at {endpoint} refused {doing} {uri} ({error.code}): "
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their permissions"
        )
    # A store whose disk is full only reports an internal error.
    hint = "; its disk may be full: check its log" if doing == "writing" and error.response.status >= 500 else ""
    return WorkFailed(f"{doing} {uri} at {endpoint} failed: {error.code}: {error.message}{hint}")


def reason(error: BaseException) -> str:
    """Return the innermost cause, such as "connection refused" instead of urllib3's three nested reprs."""
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
        return reason(error.reason)
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "unknown host"
    if isinstance(error, urllib3.exceptions.NewConnectionError) and error.__cause__ is not None:
        return reason(error.__cause__)
    if isinstance(error, urllib3.exceptions.ProtocolError) and error.args and isinstance(error.args[-1], Exception):
        return reason(error.args[-1])
    if isinstance(error, urllib3.exceptions.ProxyError):
        return f"proxy: {reason(error.original_error)}"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__
