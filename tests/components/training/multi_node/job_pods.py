"""The pods of a TrainJob, as its controllers make them."""

NAME = "cps-0123456789ab"


def pod(rank: int, attempt: int = 0, phase: str = "Running", **terminated: object) -> dict:
    state = {"terminated": terminated} if terminated else {"running": {}}
    return {
        "metadata": {
            "name": f"{NAME}-node-0-{rank}-a{attempt}",
            "labels": {
                "jobset.sigs.k8s.io/jobset-name": NAME,
                "jobset.sigs.k8s.io/restart-attempt": str(attempt),
                "batch.kubernetes.io/job-completion-index": str(rank),
            },
        },
        "status": {"phase": phase, "containerStatuses": [{"name": "node", "state": state}]},
    }
