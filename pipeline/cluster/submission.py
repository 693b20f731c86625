"""Make runs and schedules on a KFP server: the pipeline's version found by content, or uploaded."""

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
    """The pipeline on a server, as one compiled file; `uploaded` just now, or found."""

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool


@dataclass(frozen=True)
class Placing:
    """What a run is called on the server, and where it belongs."""

    name: str
    experiment: str
    service_account: str = ""
    """Of the pods; empty is the server's own choice."""


@dataclass(frozen=True)
class Trigger:
    """When a schedule starts a run: one of the two."""

    cron: str = ""
    """Six fields, seconds first."""
    interval_seconds: int = 0

    def as_dict(self) -> dict[str, str | int]:
        return {"cron": self.cron} if self.cron else {"interval_seconds": self.interval_seconds}


@dataclass(frozen=True)
class Scheduled:
    """A schedule that the server has taken."""

    schedule_id: str
    name: str
    experiment: str
    pipeline: str
    version: str
    url: str


@dataclass(frozen=True)
class Submitted:
    """A run that the server has taken."""

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
    """The version of the pipeline that is this very YAML; uploaded where the server does not have it."""
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
            # Somebody else uploaded the same just now.
            if found := _version_id(server, pipeline_id, name):
                return Version(pipeline_id, found, name, uploaded=False)
            raise
    return Version(pipeline_id, str(made.pipeline_version_id), name, uploaded=True)


def submit(server: Server, version: Version, parameters: PipelineParameters, place: Placing) -> Submitted:
    """Start a run. Nothing but `parameters` is sent: no variable of this process, and no key."""
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
    """Have the server start a run again and again: one at a time, and missed ones are not made up for."""
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

    # Without a file: its first version would be called like the pipeline, and could not be found by content. By the
    # display name alone, since a server refuses a field that it does not know, and older ones know no `name`.
    wanted = V2beta1Pipeline(display_name=PIPELINE, description=DESCRIPTION, namespace=server.namespace)
    try:
        made = server.create_pipeline(wanted)
    except Conflict:
        if found := find_pipeline(server):
            return found
        raise WorkFailed(
            f"a pipeline {PIPELINE!r} is on the KFP server {server.address}, where you cannot see it: ask who owns it, "
            "or give another --namespace"
        ) from None
    return str(made.pipeline_id)


def find_pipeline(server: Server) -> str:
    """Its id, or empty."""
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
    """Of the experiment, which is made where there is none."""
    try:
        made = server.call(server.client.create_experiment, name, namespace=server.namespace)
    except Conflict:
        made = server.call(server.client.get_experiment, experiment_name=name, namespace=server.namespace)
    return str(made.experiment_id)


def equals(key: str, value: str) -> str:
    """A filter of a list on the server."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})
