"""What the object store refused or lost, in one line that says where and what to do."""

import urllib3
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from components.errors import UserError, WorkFailed

REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # a bit flipped on the way
        "ConditionalRequestConflict",
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "XMinioServerNotInitialized",
    }
)


class SourceFailed(Exception):
    """What is to be sent cannot be read. No OSError: a client would take that for a broken connection and retry."""


# What a call through the SDK raises. ValueError is its answer to XML that is not S3's.
STORE_ERRORS = (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError, SyntaxError, SourceFailed)


class MissingObject(WorkFailed):
    """There is no object at this URI."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"no object at {uri}")
        self.uri = uri


class DigestMismatch(WorkFailed):
    """An object's bytes are not those that were stored; what was read of it has been thrown away."""

    def __init__(self, uri: str, expected: str, found: str) -> None:
        super().__init__(f"{uri} is damaged or was replaced: expected sha256 {expected}, found {found}")
        self.uri = uri
        self.expected = expected
        self.found = found


class StoreUnreachable(WorkFailed):
    """The object store stopped answering in the middle of the work, and stayed away for all retries."""


def is_transient(error: Exception) -> bool:
    """Whether the same request may well succeed in a moment."""
    if isinstance(error, S3Error):
        return error.code in TRANSIENT_CODES or error.response.status >= 500
    if isinstance(error, InvalidResponseError):
        return int(error._code) >= 500  # noqa: SLF001 - the SDK keeps the status there and nowhere else
    if isinstance(error, ServerError):
        return int(error.status_code) >= 500
    return isinstance(error, urllib3.exceptions.HTTPError)


def explain(error: Exception, doing: str, uri: str, endpoint: str) -> Exception:
    """Turn what the SDK raised while `doing` ("reading", "writing" …) `uri` into an error for a person."""
    if isinstance(error, S3Error):
        return _explain_answer(error, doing, uri, endpoint)
    if isinstance(error, urllib3.exceptions.HTTPError):
        return StoreUnreachable(f"the object store at {endpoint} does not answer ({reason(error)}) while {doing} {uri}")
    return WorkFailed(f"{doing} {uri} at {endpoint} failed: {reason(error)}")


def _explain_answer(error: S3Error, doing: str, uri: str, endpoint: str) -> Exception:
    if error.code in ("NoSuchKey", "NoSuchBucket"):
        return MissingObject(uri)
    if error.code in REFUSED:
        return UserError(
            f"the object store at {endpoint} refused {doing} {uri} ({error.code}): "
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they are allowed to do"
        )
    # A store whose disk is full says no more than that it failed.
    hint = "; its disk may be full, its log says more" if doing == "writing" and error.response.status >= 500 else ""
    return WorkFailed(f"{doing} {uri} at {endpoint} failed: {error.code}: {error.message}{hint}")


def reason(error: BaseException) -> str:
    """The innermost cause in a few words: "connection refused", not urllib3's three nested reprs."""
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
