"""A real Kubernetes API server, which `make cluster-test` takes from KUBECONFIG.

The tests create one namespace there, with ServiceAccounts, Roles and RoleBindings, and delete it afterwards. Everything
else is a dry run: the server authorises, admits and validates each object like any other, and does not store it.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.manifests.objects import Object

REPOSITORY = Path(__file__).parents[2]
KUBECTL = REPOSITORY / "build" / "ci-tools" / "bin" / "kubectl"
MANIFESTS = REPOSITORY / "build" / "manifests"
ACCESS = ("ServiceAccount", "Role", "RoleBinding")


@dataclass(frozen=True)
class Cluster:
    """What kubectl says, in a namespace where Pod Security enforces its level "restricted"."""

    kubeconfig: str
    namespace: str

    def kubectl(self, *arguments: str, objects: list[Object] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run kubectl with the objects, if any, as its file."""
        command = [str(KUBECTL), "--namespace", self.namespace, *arguments, *(["-f", "-"] if objects else [])]
        text = yaml.safe_dump_all(objects) if objects else None
        files = map(os.path.expanduser, self.kubeconfig.split(os.pathsep))  # make does not expand ~
        environment = {**os.environ, "KUBECONFIG": os.pathsep.join(files)}
        return subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)

    def apply(self, objects: list[Object], *arguments: str) -> "subprocess.CompletedProcess[str]":
        # The cluster may already have some of these objects, as another person's.
        strictly = ("apply", "--server-side", "--force-conflicts", "--validate=strict")
        return self.kubectl(*strictly, "--field-manager=cps-test", *arguments, objects=objects)

    def account(self, name: str) -> str:
        """Return the option that makes kubectl act as this ServiceAccount."""
        return f"--as=system:serviceaccount:{self.namespace}:{name}"

    def overlay(self, name: str) -> list[Object]:
        """Return an overlay's objects as `make manifests` built them, moved to the tests' namespace."""
        text = (
            (MANIFESTS / f"{name}.yaml").read_text().replace("namespace: kubeflow\n", f"namespace: {self.namespace}\n")
        )
        return [item for item in yaml.safe_load_all(text) if item]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    kubeconfig = os.environ.get("CPS_TEST_CLUSTER")
    if not kubeconfig:
        pytest.skip("no cluster is named: run `make cluster-test KUBECONFIG=...`")
    found = Cluster(kubeconfig, f"cps-test-{secrets.token_hex(4)}")
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": found.namespace, "labels": level}
    made = found.kubectl("create", objects=[{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
    assert made.returncode == 0, made.stderr
    try:
        rights = found.apply([item for item in found.overlay("kind") if item["kind"] in ACCESS])
        assert rights.returncode == 0, rights.stderr
        yield found
    finally:
        found.kubectl("delete", "namespace", found.namespace, "--wait=false")


@pytest.fixture
def with_trainer(cluster: Cluster) -> None:
    """Skips where Kubeflow Trainer is not installed."""
    if cluster.kubectl("get", "customresourcedefinition", "trainjobs.trainer.kubeflow.org").returncode:
        pytest.skip("the cluster has no TrainJobs: install Kubeflow Trainer 2.3 (manifests/README.md, step 3)")
