"""Generate the reference of the pipeline's parameters: python -m pipeline.manual > docs/reference/parameters.md"""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from pipeline.compile import compile_pipeline

_HEAD = """# Parameters of the pipeline

What the form *Create run* of Kubeflow Pipelines asks for. The form sorts the parameters by name, and shows neither
their groups nor their meaning. `cps submit` sets the same parameters by the options of `cps run` and checks them first.
`make reference` generates this page from the pipeline; a test checks that it is up to date.
"""
_TYPES = {"NUMBER_INTEGER": "whole number", "STRING": "text", "STRUCT": "JSON object", "LIST": "JSON list"}


def manual() -> str:
    """Return every parameter with its type, default and meaning, by group, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = compile_pipeline(Path(folder, "pipeline.yaml")).read_text()
    parameters = next(yaml.safe_load_all(compiled))["root"]["inputDefinitions"]["parameters"]
    lines = [_HEAD]
    for group in ("Data", "Training", "Cluster"):
        lines += [f"## {group}", "", "| Parameter | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(name, of) for name, of in parameters.items() if of["description"].startswith(f"{group}: ")]
        lines.append("")
    return "\n".join(lines).rstrip()


def _row(name: str, of: dict[str, Any]) -> str:
    default, meaning = of["defaultValue"], of["description"].partition(": ")[2]
    if isinstance(default, float):
        default = int(default)
    text = default if isinstance(default, str) else json.dumps(default)
    return f"| `{name}` | {_TYPES[of['parameterType']]} | {f'`{text}`' if text else 'empty'} | {meaning} |"


if __name__ == "__main__":
    print(manual())
