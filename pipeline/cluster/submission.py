"""Create runs and schedules on a KFP server. The pipeline version is found by its content, or uploaded."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.errors import WorkFailed
from components.training.multi_node.pod_settings import KEYS
from pipeline.cluster.client import Conflict, Server
from pipeline.compile import compile_pipeline, version_name
from pipeline.parameters import PipelineParameters

PIPELINE = "cross-pseudo-supervision"
DESCRIPTION = "Semi-supervised semantic segmentation by Cross Pseudo Supervision"


@dataclass(frozen=True)
class Version:
    """A version of the pipeline on a server; `uploaded` says whether this call uploaded it."""

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool


@dataclass(frozen=True)
class Placing:
    """The name, experiment and service account of a run on the server."""

    name: str
    experiment: str
    service_account: str = ""
    """Service account of the pods; empty uses the server's default."""


@dataclass(frozen=True)
class Trigger:
    """When a schedule starts runs: exactly one of the fields is set."""

    cron: str = ""
    """Six fields, seconds first."""
    interval_seconds: int = 0

    def as_dict(self) -> dict[str, str | int]:
        return {"cron": self.cron} if self.cron else {"interval_seconds": self.interval_seconds}


@dataclass(frozen=True)
class Scheduled:
    """A schedule that the server has accepted."""

    schedule_id: str
    name: str
    experiment: str
    pipeline: str
    version: str
    url: str


@dataclass(frozen=True)
class Submitted:
    """A run that the server has accepted."""

    run_id: str
    name: str
    experiment: str
    version: Version
    url: str

    def as_dict(self) -> dict[str, str | bool]:
        return {
            "run_id": self.run_id,
            "name": self.name,
            "experiment": self.experiment,
            "pipeline": PIPELINE,
            "version": self.version.name,
            "uploaded": self.version.uploaded,
            "url": self.url,
        }


def find_or_upload(server: Server, secret_fields: tuple[str, str] = KEYS) -> Version:
    """Return the pipeline version with exactly this YAML, uploading it if the server does not have it."""
    with tempfile.TemporaryDirectory(prefix="cps-pipeline-") as folder:
        compiled = compile_pipeline(Path(folder) / "cps.yaml", secret_fields)
        name = version_name(compiled)
        pipeline_id = _pipeline_id(server)
        if found := _version_id(server, pipeline_id, name):
            return Version(pipeline_id, found, name, uploaded=False)
        try:
            made = server.call(
                server.client.upload_pipeline_version,
                str(compiled),
                pipeline_version_name=name,
                pipeline_id=pipeline_id,
            )
        except Conflict:
            # Somebody else uploaded the same version in the meantime.
            if found := _version_id(server, pipeline_id, name):
                return Version(pipeline_id, found, name, uploaded=False)
            raise
    return Version(pipeline_id, str(made.pipeline_version_id), name, uploaded=True)


def submit(server: Server, version: Version, parameters: PipelineParameters, place: Placing) -> Submitted:
    """Start a run. Only `parameters` are sent, never environment variables or credentials of this process."""
    made = server.call(
        server.client.run_pipeline,
        _experiment_id(server, place.experiment),
        place.name,
        params=parameters.as_dag(),
        pipeline_id=version.pipeline_id,
        version_id=version.version_id,
        service_account=place.service_account or None,
    )
    url = server.url(f"runs/details/{made.run_id}")
    return Submitted(str(made.run_id), place.name, place.experiment, version, url)


def schedule(
    server: Server, version: Version, parameters: PipelineParameters, place: Placing, when: Trigger
) -> Scheduled:
    """Create a schedule that starts runs repeatedly. Runs never overlap, and missed runs are not made up for."""
    made = server.call(
        server.client.create_recurring_run,
        _experiment_id(server, place.experiment),
        place.name,
        cron_expression=when.cron or None,
        interval_second=when.interval_seconds or None,
        max_concurrency=1,
        no_catchup=True,
        params=parameters.as_dag(),
        pipeline_id=version.pipeline_id,
        version_id=version.version_id,
        service_account=place.service_account or None,
    )
    return Scheduled(
        schedule_id=str(made.recurring_run_id),
        name=place.name,
        experiment=place.experiment,
        pipeline=PIPELINE,
        version=version.name,
        url=server.url(f"recurringrun/details/{made.recurring_run_id}"),
    )


def _pipeline_id(server: Server) -> str:
    if found := find_pipeline(server):
        return found
    from kfp_server_api import V2beta1Pipeline

    # Do not upload a file: its first version would have the pipeline's name, and could not be found by its content. Set
    # only the display name: servers reject unknown fields, and older servers do not know `name`.
    wanted = V2beta1Pipeline(display_name=PIPELINE, description=DESCRIPTION, namespace=server.namespace)
    try:
        made = server.create_pipeline(wanted)
    except Conflict:
        if found := find_pipeline(server):
            return found
        raise WorkFailed(
            f"the KFP server {server.address} has a pipeline {PIPELINE!r} that you cannot see: ask its owner "
            "for access, or use a different --namespace"
        ) from None
    return str(made.pipeline_id)


def find_pipeline(server: Server) -> str:
    """Return the id of this pipeline on the server, or an empty string."""
    listed = server.call(
        server.client.list_pipelines, page_size=2, filter=equals("display_name", PIPELINE), namespace=server.namespace
    )
    return str(listed.pipelines[0].pipeline_id) if listed.pipelines else ""


def _version_id(server: Server, pipeline_id: str, name: str) -> str:
    listed = server.call(
        server.client.list_pipeline_versions, pipeline_id, page_size=2, filter=equals("display_name", name)
    )
    versions = listed.pipeline_versions
    return str(versions[0].pipeline_version_id) if versions else ""


def _experiment_id(server: Server, name: str) -> str:
    """Return the id of the experiment, creating it if it does not exist."""
    try:
        made = server.call(server.client.create_experiment, name, namespace=server.namespace)
    except Conflict:
        made = server.call(server.client.get_experiment, experiment_name=name, namespace=server.namespace)
    return str(made.experiment_id)


def equals(key: str, value: str) -> str:
    """Return a filter for the server's list calls."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})
