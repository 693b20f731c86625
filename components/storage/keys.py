"""The layout of the object store. Every key in the bucket is built here."""

WEIGHTS = "weights/"
RUNS = "runs/"
DATASETS = "datasets/"
SOURCES = "datasets/by-source/"
JOBS = "jobs/"
CONDITIONAL = "conditional-writes.txt"
"""An object that is always there, to check that the store refuses to write it under a condition that does not hold."""


def dataset_manifest(digest: str) -> str:
    return f"datasets/{digest}/manifest.json"


def dataset_shard(digest: str, number: int, sha256: str) -> str:
    """Return a content-addressed key, so that storing a shard again never changes an object."""
    return f"datasets/{digest}/shard-{number:05d}-{sha256[:12]}.tar"


def is_dataset_shard(key: str) -> bool:
    return key.startswith(DATASETS) and key.rsplit("/", 1)[1].startswith("shard-")


def dataset_lease(digest: str) -> str:
    return f"datasets/{digest}/lease.json"


def dataset_label_classes(digest: str) -> str:
    """Return the key of the class ids in each label, for a stratified split."""
    return f"datasets/{digest}/label-classes.json"


def dataset_source(source_digest: str) -> str:
    """Return the key that maps a source (an archive's sha256, the generator's settings) to its dataset."""
    return f"datasets/by-source/{source_digest}.json"


def backbone(address_digest: str) -> str:
    """Return the key that maps an address of pretrained weights, by its sha256, to the sha256 of the file."""
    return f"backbones/{address_digest}.json"


def run(run_key: str, name: str) -> str:
    """Return the key of an object of a run: run.json, split.json, result.json, report.html, lease.json."""
    return f"runs/{run_key}/{name}"


def lease_of(key: str) -> str:
    """Return the key of the lease that a writer of the object at `key` holds, or an empty string if none is needed."""
    kind, _, rest = key.partition("/")
    name, separator, _ = rest.partition("/")
    if not separator or key.startswith(SOURCES):
        return ""
    if f"{kind}/" in (RUNS, WEIGHTS):
        return run(name, "lease.json")
    return dataset_lease(name) if f"{kind}/" == DATASETS else ""


def checkpoint(run_key: str, epoch: int) -> str:
    return f"runs/{run_key}/checkpoints/epoch-{epoch:04d}.safetensors"


def checkpoint_index(run_key: str) -> str:
    """Return the key of the list of all checkpoints, which is written when training is complete."""
    return f"runs/{run_key}/checkpoints/index.json"


def scores(run_key: str, epoch: int) -> str:
    return f"runs/{run_key}/scores/epoch-{epoch:04d}.npz"


def test_scores(run_key: str) -> str:
    """Return the key of the selected checkpoint's scores on the test list."""
    return f"runs/{run_key}/scores/test.npz"


def prediction(run_key: str, batch: str, name: str) -> str:
    """Return the key of one output: `batch` identifies images and settings; `name` is gallery.html, masks/… etc."""
    return f"runs/{run_key}/predictions/{batch}/{name}"


def best_weights(run_key: str, *, pair: bool) -> str:
    """Return the key of the best network's weights, or of both networks if their ensemble scored best."""
    return f"weights/{run_key}/best{'-pair' if pair else ''}.safetensors"


def job(job_id: str) -> str:
    """Return the key that maps a KFP job to its run. The exit handler needs it, since it cannot depend on a task."""
    return f"jobs/{job_id}.json"


def job_notified(job_id: str) -> str:
    """Return the key that marks a KFP job's notification as sent, so that a retried exit handler sends it once."""
    return f"jobs/{job_id}.told.json"


def measures(run_key: str, checkpoint_sha256: str, chunk: str) -> str:
    """Return the key of the disagreement between a checkpoint's networks on the images that `chunk` identifies."""
    return f"runs/{run_key}/label-next/{checkpoint_sha256[:12]}/{chunk}.npz"


def training_curve(run_key: str) -> str:
    """Return the key of the losses and learning rates of a run's training."""
    return f"runs/{run_key}/training-curve.json"


def snapshots(run_key: str, epoch: int) -> str:
    """Return the key of a checkpoint's small masks of a few validation images."""
    return f"runs/{run_key}/snapshots/epoch-{epoch:04d}.npz"


def pseudo_labels(run_key: str) -> str:
    """Return the key of the pseudo labels' accuracy per epoch, if the split hid labels of the unlabelled images."""
    return f"runs/{run_key}/pseudo-labels.json"
