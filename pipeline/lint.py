"""Check a compiled pipeline for two bugs of KFP that appear only when it runs.

KFP's compiler does not pass resources that are parameters, such as set_cpu_limit(cpu), into the body of a ParallelFor.
Local runs ignore resources, but the server's driver fails. See `undeclared_inputs`.

KFP's local runs silently compute with wrong data: in the body of a ParallelFor, a parameter that comes from a task
outside the loop becomes the loop's item. See `sibling_inputs_of_loops`.

    with dsl.ParallelFor(items.output) as item:
        score(item=item, run_key=split.output)      # run_key == item

To avoid this, pass the value inside the item, or move the loop into a separate pipeline, whose parameters are safe.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]


def sibling_inputs_of_loops(pipeline: Spec) -> list[str]:
    """Return one line for every value that reaches the body of a loop from a task outside it.

    `pipeline` is the first document of the compiled YAML. The list to loop over may come from any task.
    """
    found = []
    for where, name, task in _tasks(pipeline):
        iterator = task.get("parameterIterator")
        if iterator is None:
            continue
        looped_over = iterator["items"].get("inputParameter")
        for parameter, given in task.get("inputs", {}).get("parameters", {}).items():
            producer = given.get("taskOutputParameter")
            if producer is None:
                continue
            output = f"{producer['producerTask']}.{producer['outputParameterKey']}"
            if parameter != looped_over or _used_in_body(pipeline, task, parameter):
                found.append(f"loop {name!r} in {where!r} takes {output!r} as {parameter!r} from outside the loop")
    return found


def undeclared_inputs(pipeline: Spec) -> list[str]:
    """Return one line for every input of a task that its DAG does not have. `pipeline` as above."""
    declared = {name: spec.get("inputDefinitions", {}) for name, spec in pipeline.get("components", {}).items()}
    declared["root"] = pipeline["root"].get("inputDefinitions", {})
    found = []
    for where, name, task in _tasks(pipeline):
        for kind, source in (("parameters", "componentInputParameter"), ("artifacts", "componentInputArtifact")):
            for given in task.get("inputs", {}).get(kind, {}).values():
                wanted = given.get(source)
                if wanted is not None and wanted not in declared[where].get(kind, {}):
                    found.append(f"task {name!r} in {where!r} takes {wanted!r}, which {where!r} does not have")
    return found


def _tasks(pipeline: Spec) -> Iterator[tuple[str, str, Spec]]:
    yield from (("root", name, task) for name, task in pipeline["root"]["dag"]["tasks"].items())
    for component, spec in pipeline.get("components", {}).items():
        for name, task in spec.get("dag", {}).get("tasks", {}).items():
            yield component, name, task


def _used_in_body(pipeline: Spec, loop: Spec, parameter: str) -> bool:
    """Return whether a task in the loop's body uses the parameter itself, not only an item of it."""
    body = pipeline["components"][loop["componentRef"]["name"]].get("dag", {}).get("tasks", {})
    return any(
        given.get("componentInputParameter") == parameter
        for task in body.values()
        for given in task.get("inputs", {}).get("parameters", {}).values()
    )
