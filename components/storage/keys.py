"""Where everything lies in the object store. Every key of the bucket is made here and nowhere else."""

WEIGHTS = "weights/"
RUNS = "runs/"
DATASETS = "datasets/"
SOURCES = "datasets/by-source/"
JOBS = "jobs/"


def dataset_manifest(digest: str) -> str:
    return f"datasets/{digest}/manifest.json"


def dataset_shard(digest: str, number: int, sha256: str) -> str:
    """Its content is in its name, so whoever stores it, and however often, the object at a key is the same."""
    return f"datasets/{digest}/shard-{number:05d}-{sha256[:12]}.tar"


def is_dataset_shard(key: str) -> bool:
    return key.startswith(DATASETS) and key.rsplit("/", 1)[1].startswith("shard-")


def dataset_lease(digest: str) -> str:
    return f"datasets/{digest}/lease.json"


def dataset_label_classes(digest: str) -> str:
    """The class ids that each label shows, for a stratified split."""
    return f"datasets/{digest}/label-classes.json"


def dataset_source(source_digest: str) -> str:
    """Which dataset a source (an archive's sha256, the generator's settings) became, so that it is not made again."""
    return f"datasets/by-source/{source_digest}.json"


def run(run_key: str, name: str) -> str:
    """An object of a run: run.json, split.json, result.json, report.html, lease.json."""
    return f"runs/{run_key}/{name}"


def lease_of(key: str) -> str:
    """The lease that is held while somebody writes the object at `key`, or an empty string."""
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
    """Written when training is complete: every checkpoint with epoch, step, key, sha256 and size."""
    return f"runs/{run_key}/checkpoints/index.json"


def scores(run_key: str, epoch: int) -> str:
    return f"runs/{run_key}/scores/epoch-{epoch:04d}.npz"


def test_scores(run_key: str) -> str:
    """Of the chosen checkpoint and network alone, on the dataset's test list."""
    return f"runs/{run_key}/scores/test.npz"


def prediction(run_key: str, batch: str, name: str) -> str:
    """`batch` names the images and settings of one prediction; `name` is gallery.html, masks/…, overlays/…."""
    return f"runs/{run_key}/predictions/{batch}/{name}"


def best_weights(run_key: str, *, pair: bool) -> str:
    """The best single network, or both where their averaged probabilities won."""
    return f"weights/{run_key}/best{'-pair' if pair else ''}.safetensors"


def job(job_id: str) -> str:
    """Which run a KFP job works on: read by the exit handler, which may depend on no task."""
    return f"jobs/{job_id}.json"


def job_told(job_id: str) -> str:
    """There when the end of a KFP job has been told, so that an exit handler that is tried again tells it once."""
    return f"jobs/{job_id}.told.json"


def measures(run_key: str, checkpoint_sha256: str, chunk: str) -> str:
    """How far a checkpoint's networks disagree on the images of a chunk; `chunk` says which these are."""
    return f"runs/{run_key}/label-next/{checkpoint_sha256[:12]}/{chunk}.npz"


def pseudo_labels(run_key: str) -> str:
    """How good a run's pseudo labels were by epoch, where the unlabelled images have labels that its split hides."""
    return f"runs/{run_key}/pseudo-labels.json"
