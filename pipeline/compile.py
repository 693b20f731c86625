"""Compile the pipeline for a KFP server; local runs execute the same file."""

import hashlib
from pathlib import Path

import yaml

from components.errors import UserError, WorkFailed
from components.files import replacing
from components.training.multi_node.pod_settings import KEYS, SECRET_FIELDS_VARIABLE
from pipeline.lint import sibling_inputs_of_loops, undeclared_inputs
from pipeline.version import VERSION


def compile_pipeline(path: Path, secret_fields: tuple[str, str] = KEYS) -> Path:
    """Write the pipeline as IR YAML, with its Kubernetes settings as a second document.

    `secret_fields` are the names of the access key and the secret key inside the Secret. They cannot be parameters of
    the pipeline, because KFP fixes them at compile time. Raises WorkFailed if the result would fail or compute wrong
    data.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{str(path)!r} must end in .yaml or .yml: KFP derives the format from the extension")
    from kfp import compiler

    from pipeline.dag import cross_pseudo_supervision

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, keep_suffix=True) as partial:
        compiler.Compiler().compile(cross_pseudo_supervision, str(partial))
        documents = list(yaml.safe_load_all(partial.read_text()))
        if wrong := sibling_inputs_of_loops(documents[0]):
            raise WorkFailed(f"the pipeline would compute wrong data: {'; '.join(wrong)}")
        if wrong := undeclared_inputs(documents[0]):
            raise WorkFailed(f"the pipeline would fail on a KFP server: {'; '.join(wrong)}")
        if secret_fields != KEYS:
            header = [line for line in partial.read_text().splitlines() if line.startswith("#")]
            _rename_secret_fields(documents[1], dict(zip(KEYS, secret_fields, strict=True)))
            _tell_secret_fields(documents[0], ",".join(secret_fields))
            partial.write_text("\n".join(header) + "\n" + yaml.safe_dump_all(documents, sort_keys=True))
    return path


def version_name(compiled: Path) -> str:
    """Return the name of a pipeline version on a server: the release and a digest of the YAML."""
    return f"{VERSION}-{hashlib.sha256(compiled.read_bytes()).hexdigest()[:12]}"


def _rename_secret_fields(platform: dict, names: dict[str, str]) -> None:  # type: ignore[type-arg]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for executor in executors.values():
        for secret in executor.get("secretAsEnv", []):
            for entry in secret["keyToEnv"]:
                entry["secretKey"] = names.get(entry["envVar"], entry["secretKey"])


def _tell_secret_fields(pipeline: dict, fields: str) -> None:  # type: ignore[type-arg]
    for executor in pipeline["deploymentSpec"]["executors"].values():
        for variable in executor["container"].get("env", []):
            if variable["name"] == SECRET_FIELDS_VARIABLE:
                variable["value"] = fields
