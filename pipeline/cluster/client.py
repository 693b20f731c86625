"""A client for a KFP server that finds it and authenticates like kfp.Client, and reports errors in one line.

The address comes from KF_PIPELINES_ENDPOINT, otherwise from the current cluster or the kubeconfig. Credentials come
from KFP_EXISTING_TOKEN, a service account token (KF_PIPELINES_SA_TOKEN_PATH), Google's IAP
(KF_PIPELINES_IAP_OAUTH2_CLIENT_ID and related variables), or KFP's own context file. KFP defines all these names.
"""

import contextlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.errors import UserError, WorkFailed, one_line

if TYPE_CHECKING:
    from kfp import Client

ENDPOINT = "KF_PIPELINES_ENDPOINT"
UI_ENDPOINT = "KF_PIPELINES_UI_ENDPOINT"
TOKEN = "KFP_EXISTING_TOKEN"
TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0

OLDEST_VERSION = (2, 17)
"""The oldest release of Kubeflow Pipelines that runs the compiled pipeline correctly, as far as its sources show."""
NEEDED = ".".join(map(str, OLDEST_VERSION))
_VERSION = re.compile(r"v?(\d+)\.(\d+)\b")
UNKNOWN_FIELD = "unknown field"
"""Part of the error of a server, or of a driver in a run, that is older than a setting of the compiled pipeline."""
EXPLANATION = f"it is older than this pipeline, which needs release {NEEDED} or newer"


class Unreachable(UserError):
    """The server, or the server behind a gateway, does not respond. This may be temporary."""


class Conflict(UserError):
    """The server already has an object of that name."""


class Missing(UserError):
    """The server does not have the requested object."""


@dataclass(frozen=True)
class Connection:
    """How to reach the server; kfp.Client determines empty fields."""

    endpoint: str = ""
    namespace: str = ""
    """The user's namespace, on a multi-user server."""
    ca_cert: str = ""


class Server:
    """A KFP server. `client` is a kfp.Client; call it through `call`, which translates its errors."""

    def __init__(self, connection: Connection) -> None:
        self.namespace = connection.namespace or None
        self._given = connection.endpoint or os.environ.get(ENDPOINT, "")
        self.client: Client = self.call(_connect, connection)
        self.address = str(self.client._existing_config.host)  # noqa: SLF001 - what kfp resolved is nowhere else
        self.version: str = self.client.server_version
        """The server's release, such as 2.17.0, or "unknown" and the like for an image that was built without one."""
        if not self.namespace:
            self.namespace = self.client.get_user_namespace() or None

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the function and return its result. Raises UserError or WorkFailed with a one-line message."""
        with _one_line_errors(getattr(self, "address", self._given) or "the KFP server"), _quiet():
            return function(*arguments, **named)

    def create_pipeline(self, wanted: Any) -> Any:
        """Create a pipeline without a version; kfp's own method also uploads a file. Raises Conflict."""
        return self.call(self.client._pipelines_api.pipeline_service_create_pipeline, wanted)  # noqa: SLF001

    def version_warning(self) -> str:
        """Return one line if the server is older than the pipeline needs, or does not tell; otherwise ""."""
        found = _VERSION.match(self.version)
        if found is None:
            return f"the KFP server does not report its release ({self.version or 'none'}); {NEEDED} or newer is needed"
        if (int(found[1]), int(found[2])) >= OLDEST_VERSION:
            return ""
        return (
            f"the KFP server is release {self.version}, but this pipeline needs {NEEDED} or newer: before 2.15, "
            f"its driver fails with '{UNKNOWN_FIELD} \"optional\"'; before 2.17, a run may end with a wrong status"
        )

    def url(self, part: str) -> str:
        """Return the URL of `part` in the UI; empty if KFP reaches the server only through the Kubernetes API."""
        place = os.environ.get(UI_ENDPOINT) or self._given
        if not place:
            return ""
        return f"{place if '://' in place else 'https://' + place}".rstrip("/") + f"/#/{part}"


def _connect(connection: Connection) -> "Client":
    import kfp_server_api
    from kfp import Client
    from kfp.client import ServiceAccountTokenVolumeCredentials

    class OneTry(Client):
        server_version = ""

        def _load_config(self, host: str | None, *others: Any) -> Any:
            config = super()._load_config(host, *others)
            if not host and config.host == kfp_server_api.Configuration().host:
                raise UserError(
                    f"no KFP server given: set {ENDPOINT} or pass --endpoint, for example "
                    "http://localhost:8080 for a port-forward of ml-pipeline-ui"
                )
            return config

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002
            """Check once; KFP's own method retries for 25 seconds when the server rejects the request."""
            api_client = self._healthz_api.api_client
            _limit_waiting(api_client)
            answer, _, headers = self._healthz_api.healthz_service_get_healthz_with_http_info()
            if "json" not in headers.get("Content-Type", ""):
                raise UserError(
                    f"{self._existing_config.host} responds, but not as a KFP server: is it a login page? "
                    f"Set {TOKEN} to a token, or use the address of the API itself"
                )
            # The server reports its release, but the model of the answer has no field for it. The UI, which most people
            # forward, answers for the server, under a name of its own.
            health = json.loads(api_client.last_response.data)
            self.server_version = str(health.get("tag_name") or health.get("apiServerTagName") or "")
            return answer

    mounted = ServiceAccountTokenVolumeCredentials() if os.environ.get(TOKEN_PATH) else None
    # Do not pass the namespace: KFP would look for its own service in it. Calls that need it get it as an argument.
    client = OneTry(
        host=connection.endpoint or None,
        existing_token=os.environ.get(TOKEN) or None,
        ssl_ca_cert=connection.ca_cert or None,
        credentials=mounted,
    )
    client.get_kfp_healthz()
    for api in ("_recurring_run_api", "_run_api", "_experiment_api", "_pipelines_api", "_upload_api"):
        _limit_waiting(getattr(client, api).api_client)
    return client


def _limit_waiting(api_client: Any) -> None:
    """Set timeouts for requests; by default, KFP's client waits forever."""
    rest = api_client.rest_client
    request = type(rest).request

    def limited(*arguments: Any, _request_timeout: Any = None, **named: Any) -> Any:
        limits = _request_timeout or (CONNECT_SECONDS, READ_SECONDS)
        return request(rest, *arguments, _request_timeout=limits, **named)

    rest.request = limited


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence KFP's client: it emits irrelevant warnings, and prints links to standard output, where results belong."""
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _one_line_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (UserError, WorkFailed):
        raise
    except Exception as error:
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        if isinstance(error, ApiException) and error.status:
            raise _refused(address, error.status, _said(error.body), str(error.reason)) from None
        if isinstance(error, (ApiException, HTTPError, OSError)):
            # `reason` is the underlying error, without the connection pool's retries.
            reason = getattr(error, "reason", None) or error
            raise Unreachable(f"the KFP server {address} does not respond: {one_line(_innermost(reason))}") from None
        raise


def _innermost(reason: object) -> BaseException:
    found = reason if isinstance(reason, BaseException) else OSError(str(reason))
    while isinstance(inner := found.__cause__ or found.__context__, OSError):
        found = inner
    return found


def _refused(address: str, status: int, said: str, reason: str) -> Exception:
    text = said or reason
    if status == 401:
        return UserError(
            f"the KFP server {address}: authentication failed (401): set {TOKEN}, or your installation's credentials"
        )
    if status == 403:
        return UserError(f"the KFP server {address}: permission denied (403): {text}")
    if status == 404:
        return Missing(f"the KFP server {address}: not found (404): {text}")
    if status == 409:
        return Conflict(f"the KFP server {address}: {text}")
    if status in (502, 503, 504):
        return Unreachable(f"the KFP server {address} does not respond ({status}): {text}")
    if UNKNOWN_FIELD in text:
        return UserError(f"the KFP server {address} rejected the request ({status}): {text}; {EXPLANATION}")
    if status < 500:
        return UserError(f"the KFP server {address} rejected the request ({status}): {text}")
    return WorkFailed(f"the KFP server {address} failed ({status}): {text}")


def _said(body: str | bytes | None) -> str:
    """Return the server's error message, preferring the one meant for users."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        said = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:200] if "<" not in text else ""
    if not isinstance(said, dict):
        return ""
    details = [detail.get("message", "") for detail in said.get("details", []) if isinstance(detail, dict)]
    words = next(filter(None, details), "") or said.get("error_message") or said.get("message") or said.get("error")
    return " ".join(str(words or "").split())[:500]
