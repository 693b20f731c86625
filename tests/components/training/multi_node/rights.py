"""What a Role of the manifests allows, and which right a request to the Kubernetes API needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

ACCESS = Path(__file__).parents[4] / "manifests" / "components" / "trainer" / "access.yaml"
ROLE = "cps-trainjobs"


class Right(NamedTuple):
    """As a rule of a Role writes it: the core group is "", and the log of a pod is pods/log."""

    verb: str
    group: str
    resource: str


def granted() -> frozenset[Right]:
    """All that the Role of the steps' account allows."""
    [role] = [
        item
        for item in yaml.safe_load_all(ACCESS.read_text())
        if item["kind"] == "Role" and item["metadata"]["name"] == ROLE
    ]
    return frozenset(
        Right(verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def needed(method: str, path: str, query: Mapping[str, str]) -> Right:
    """The right that Kubernetes asks for: /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE[/NAME[/SUBRESOURCE]]."""
    first, *parts = path.strip("/").split("/")
    group = parts.pop(0) if first == "apis" else ""
    _version, _namespaces, _namespace, resource, *named = parts
    if len(named) > 1:
        resource = f"{resource}/{named[1]}"
    if method == "GET":
        verb = "get" if named else "watch" if query.get("watch") == "true" else "list"
    else:
        verb = {"POST": "create", "DELETE": "delete"}[method]
    return Right(verb, group, resource)
