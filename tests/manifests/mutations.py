"""Mistakes that people make in manifests, each made once on purpose, and what must be said about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.manifests.objects import Object, name

Path = Sequence[str | int]
REMOVED = object()
"""In the place of a value: the field is removed."""


@dataclass(frozen=True)
class Mutation:
    """`path` leads to a field of the object `target`; a name stands for the element of a list that has it."""

    overlay: str
    target: str
    path: Path
    value: Any
    found: str

    def __str__(self) -> str:
        return f"{self.overlay}: {self.target} {'.'.join(map(str, self.path)) or 'removed'}"

    def apply(self, objects: list[Object]) -> None:
        [item] = [one for one in objects if name(one) == self.target]
        if not self.path:
            objects.remove(item)
            return
        place: Any = item
        for step in self.path[:-1]:
            place = _inside(place, step)
        last = self.path[-1]
        if isinstance(place, list) and isinstance(last, str):
            last = place.index(_inside(place, last))
        if self.value is REMOVED:
            del place[last]
        elif place == [] or last == len(place):
            place.append(self.value)
        else:
            place[last] = self.value


def _inside(place: Any, step: str | int) -> Any:
    if isinstance(place, list) and isinstance(step, str):
        [found] = [one for one in place if one.get("name") == step]
        return found
    return place[step]


POD = ("spec", "template", "spec")
JOB_POD = ("spec", "jobTemplate", *POD)
FAILURES = ("spec", "template", "spec", "failurePolicy")
NODE_POD = ("spec", "template", "spec", "replicatedJobs", 0, "template", *POD)
MLFLOW, STORE, DATABASE = "Deployment cps-mlflow", "StatefulSet cps-store", "StatefulSet cps-mlflow-database"
BACKUP, RUNTIME = "CronJob cps-mlflow-backup", "ClusterTrainingRuntime paddle-distributed"
SERVER, WEED = (*POD, "containers", "mlflow"), (*POD, "containers", "seaweedfs")
NAME, HTTP = "app.kubernetes.io/name", "httpGet"

REFERENCES = [
    ("kind", STORE, (*WEED, "envFrom", 0, "secretRef", "name"), "cps-stores", "Secret cps-stores, which is not there"),
    ("kind", "Secret cps-mlflow", (), None, "Secret cps-mlflow, which is not there"),
    ("gpu", "Secret cps-mlflow-database", (), None, "Secret cps-mlflow-database, which is not there"),
    ("kind", "ConfigMap cps-settings", (), None, "ConfigMap cps-settings, which is not there"),
    ("kind", "ConfigMap cps-settings", ("data", "AWS_ENDPOINT_URL"), REMOVED, "key AWS_ENDPOINT_URL"),
    ("kind", "Secret cps-mlflow", ("data", "MLFLOW_FLASK_SERVER_SECRET_KEY"), REMOVED, "key MLFLOW_FLASK_SERVER"),
    (
        "gpu",
        STORE,
        (*POD, "containers", "minio", "env", "MINIO_ROOT_USER", "valueFrom", "secretKeyRef", "key"),
        "accesskey",
        "has no such key",
    ),
    (
        "kubeflow",
        MLFLOW,
        (*SERVER, "env", "AWS_ACCESS_KEY_ID", "valueFrom", "secretKeyRef", "key"),
        "access_key",
        "Secret mlpipeline-minio-artifact, which has no such key",
    ),
    ("kind", MLFLOW, (*POD, "volumes", "login", "configMap", "name"), "login", "ConfigMap login, which is not there"),
    ("kind", MLFLOW, (*POD, "volumes", "data", "persistentVolumeClaim", "claimName"), "d", "PersistentVolumeClaim d"),
    ("kind", "PersistentVolumeClaim cps-mlflow", (), None, "PersistentVolumeClaim cps-mlflow, which is not there"),
    ("gpu", "PersistentVolumeClaim cps-dataset-cache", (), None, "PersistentVolumeClaim cps-dataset-cache"),
    ("kind", MLFLOW, (*SERVER, "volumeMounts", "data", "name"), "date", "mounts volume date"),
    ("kind", MLFLOW, (*SERVER, "volumeMounts", "data"), REMOVED, "has volume data, which nothing mounts"),
    ("kind", MLFLOW, (*POD, "serviceAccountName"), "cps-service", "ServiceAccount cps-service"),
    ("kind", STORE, ("spec", "serviceName"), "cps-stores", "Service cps-stores, which is not there"),
    ("kind", "RoleBinding cps-trainjobs", ("roleRef", "name"), "cps-trainjob", "Role cps-trainjob, which is not"),
    ("kind", "ServiceAccount cps-steps", (), None, "ServiceAccount cps-steps, which is not there"),
]
SELECTORS_AND_PORTS = [
    ("kind", "Service cps-store", ("spec", "selector", NAME), "store", "selects no pod"),
    ("kind", "Service cps-mlflow", ("spec", "ports", 0, "targetPort"), "web", "leads to port web"),
    ("kind", "Service cps-mlflow", ("spec", "ports", 0, "port"), 80, "Service cps-mlflow has no such port"),
    ("kind", MLFLOW, ("spec", "selector", "matchLabels", NAME), "mlflow", "does not select its own pods"),
    ("kind", STORE, ("spec", "template", "metadata", "labels", NAME), "store", "does not select its own pods"),
    ("kind", "PodDisruptionBudget cps-store", ("spec", "selector", "matchLabels", NAME), "s", "selects no pod"),
    ("gpu", "PodDisruptionBudget cps-mlflow-database", (), None, "has no PodDisruptionBudget"),
    ("kind", "NetworkPolicy cps-mlflow", ("spec", "podSelector", "matchLabels", NAME), "mlflow", "selects no pod"),
    (
        "kind",
        BACKUP,
        (
            *(*JOB_POD, "affinity", "podAffinity", "requiredDuringSchedulingIgnoredDuringExecution", 0),
            *("labelSelector", "matchLabels", NAME),
        ),
        "mlflow",
        "affinity selects no pod",
    ),
    ("kind", MLFLOW, (*SERVER, "ports", 0, "name"), "web", "asks port http"),
    ("kind", STORE, (*WEED, "readinessProbe", HTTP, "port"), 9000, "asks port 9000"),
    ("kind", STORE, (*WEED, "livenessProbe"), REMOVED, "has no livenessProbe"),
    ("gpu", DATABASE, (*POD, "containers", "postgres", "readinessProbe"), REMOVED, "has no readinessProbe"),
    ("kind", MLFLOW, (*SERVER, "startupProbe"), REMOVED, "has no startupProbe"),
]
CONNECTIONS = [
    ("kind", "ConfigMap cps-settings", ("data", "AWS_ENDPOINT_URL"), "http://cps-store:9000", "no such port"),
    ("kind", "ConfigMap cps-settings", ("data", "AWS_ENDPOINT_URL"), "http://store:8333", "store:8333, which is no"),
    ("kubeflow", "ConfigMap cps-settings", ("data", "AWS_ENDPOINT_URL"), "http://seaweedfs.kubeflow:80", "no Service"),
    (
        "kubeflow",
        "ConfigMap cps-settings",
        ("data", "AWS_ENDPOINT_URL"),
        "http://minio-service.kubeflow:9000",
        "no Ser",
    ),
    ("kind", "ConfigMap cps-settings", ("data", "MLFLOW_TRACKING_URI"), "http://cps-mlflow:80", "no such port"),
    ("kind", "NetworkPolicy cps-deny-by-default", (), None, "no NetworkPolicy denies by default"),
    ("kind", "NetworkPolicy cps-deny-by-default", ("spec", "policyTypes"), ["Ingress"], "denies by default"),
    ("kind", "NetworkPolicy cps-deny-by-default", ("spec", "egress"), [{}], "denies by default"),
    ("kind", "NetworkPolicy cps-store", (), None, "takes no connection of Deployment cps-mlflow"),
    ("kind", "NetworkPolicy cps-store", ("spec", "ingress", 0, "ports", 0, "port"), 9000, "takes no connection"),
    ("kind", "NetworkPolicy cps-mlflow-backup", (), None, "CronJob cps-mlflow-backup may not connect to cps-store"),
    ("kubeflow", "NetworkPolicy cps-mlflow", ("spec", "egress", 0, "ports"), [{"port": 5432}], "may not connect"),
    (
        "gpu",
        "NetworkPolicy cps-mlflow-database",
        ("spec", "ingress", 0, "from", 0, "podSelector", "matchExpressions", 0, "values"),
        ["cps-mlflow"],
        "takes no connection of CronJob cps-mlflow-backup",
    ),
    ("gpu", "NetworkPolicy cps-training", ("spec", "egress"), REMOVED, f"{RUNTIME} may not connect to cps-store"),
]
ALLOWED = "--allowed-hosts=cps-mlflow:5000,localhost:*"
SECURITY = [
    ("kind", MLFLOW, (*POD, "securityContext", "runAsNonRoot"), REMOVED, "may run as root"),
    ("kind", STORE, (*POD, "securityContext", "runAsUser"), 0, "may run as root"),
    ("gpu", DATABASE, (*POD, "securityContext", "seccompProfile"), REMOVED, "has no seccomp profile"),
    ("kind", MLFLOW, (*SERVER, "securityContext", "allowPrivilegeEscalation"), REMOVED, "may gain privileges"),
    ("kind", MLFLOW, (*SERVER, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}, "has capabilities"),
    ("kind", MLFLOW, (*POD, "initContainers", 0, "securityContext"), REMOVED, "make-bucket may gain privileges"),
    ("kind", BACKUP, (*JOB_POD, "containers", 0, "securityContext", "readOnlyRootFilesystem"), False, "its root"),
    ("gpu", RUNTIME, (*NODE_POD, "securityContext", "runAsUser"), 0, "may run as root"),
    ("kind", STORE, (*POD, "hostNetwork"), True, "has hostNetwork"),
    ("kind", STORE, (*WEED, "ports", 0, "hostPort"), 8333, "takes a port of the node"),
    ("kind", MLFLOW, (*POD, "volumes", "scratch"), {"name": "scratch", "hostPath": {"path": "/tmp"}}, "not allowed"),
    ("kind", MLFLOW, (*POD, "automountServiceAccountToken"), REMOVED, "mounts a token"),
    ("kind", STORE, (*WEED, "resources", "limits"), REMOVED, "no limit of memory"),
    ("kind", "Role cps-trainjobs", ("rules", 0, "verbs"), ["*"], "has a wildcard"),
    ("kind", "Role cps-trainjobs", ("rules", 1, "resources"), ["pods", "*/log"], "has a wildcard"),
    ("kind", "Role cps-trainjobs", ("rules", 2, "resources"), ["pods/log", "pods/exec"], "a way to more rights"),
    ("kind", "Role cps-pipeline-pods", ("rules", 2, "resourceNames"), REMOVED, "reads every Secret"),
    ("kind", "Role cps-trainjobs", ("kind",), "ClusterRole", "holds in all namespaces"),
    ("kind", MLFLOW, (*SERVER, "command", 7), ALLOWED, "refuses requests for cps-mlflow.kubeflow:5000"),
    (
        "kind",
        MLFLOW,
        (*SERVER, "command", 7),
        "--allowed-hosts=cps-mlflow*:5000",
        "accepts requests for cps-mlflow.evil",
    ),
    ("kind", MLFLOW, (*SERVER, "command", 7), "--allowed-hosts=*", "accepts requests for evil.example"),
    ("kind", MLFLOW, (*SERVER, "command", 8), "--cors-allowed-origins=*", "accepts changes from any page"),
    ("kind", MLFLOW, (*SERVER, "env", "CPS_NAMESPACE"), REMOVED, "refuses requests for cps-mlflow.kubeflow:5000"),
]
REST = [
    ("kind", BACKUP, ("spec", "concurrencyPolicy"), "Never", "concurrencyPolicy is Never"),
    ("kind", BACKUP, (*JOB_POD, "restartPolicy"), "Always", "restartPolicy is Always"),
    ("kind", BACKUP, ("spec", "schedule"), "daily", "schedule is daily"),
    ("gpu", "PersistentVolumeClaim cps-dataset-cache", ("spec", "accessModes"), ["ReadWriteAll"], "ReadWriteAll"),
    ("kind", "NetworkPolicy cps-steps", ("spec", "policyTypes"), ["ingress"], "policyTypes is ingress"),
    ("kind", STORE, (*WEED, "image"), "chrislusf/seaweedfs", "neither a version nor a digest"),
    ("kind", STORE, (*WEED, "image"), "chrislusf/seaweedfs:latest", "neither a version nor a digest"),
    ("kind", MLFLOW, (*SERVER, "image"), "registry.example/cps-pipeline/cps:0.0.1", "is not of this version"),
    ("kind", "Service cps-store", ("metadata", "namespace"), "default", "in several namespaces"),
    ("kind", RUNTIME, ("metadata", "namespace"), "kubeflow", "belongs to no namespace, and has one"),
    ("kind", RUNTIME, (*FAILURES, "rules", 0, "name"), "a-new-start", "rule 'a-new-start', which JobSet refuses"),
    ("kind", "ServiceAccount cps-steps", ("metadata", "name"), "cps-services", "is there 2 times"),
    ("kind", "ConfigMap cps-settings", ("data", "AWS_REGION"), "here", "has AWS_REGION, which no step reads"),
    ("kind", "Secret cps-mlflow", ("data", "MLFLOW_TRACKING_PASSWORD"), REMOVED, "has no MLFLOW_TRACKING_PASSWORD"),
    ("kind", "Secret cps-store", ("data", "AWS_SECRET_ACCESS_KEY"), REMOVED, "has no AWS_SECRET_ACCESS_KEY"),
]

SCHEMAS = [
    ("kind", MLFLOW, (*SERVER, "readinessprobe"), {}, "readinessprobe"),
    ("kind", STORE, (*WEED, "ports", 0, "containerPort"), "s3", "containerPort"),
    ("kind", MLFLOW, ("spec", "replicas"), "one", "replicas"),
    ("kind", BACKUP, ("spec", "schedule"), REMOVED, "schedule"),
    ("kind", "NetworkPolicy cps-store", ("spec", "podSelector", "matchlabels"), {}, "matchlabels"),
    ("kind", STORE, ("spec", "serviceAccount"), "cps-services", "serviceAccount"),
    ("kind", "PodDisruptionBudget cps-store", ("apiVersion",), "policy/v1beta1", "policy/v1beta1"),
]
"""Mistakes of form, which are for the published schemas to find."""

FORMS = [Mutation(*row) for row in SCHEMAS]
MUTATIONS = [Mutation(*row) for row in [*REFERENCES, *SELECTORS_AND_PORTS, *CONNECTIONS, *SECURITY, *REST]]
