"""What `cps plan` measures with a few real steps, as its probes leave it for the forecast."""

from components.contract import Frozen


class TrainingProbe(Frozen):
    """What a few training steps cost, and what the whole run will have. Sizes in bytes, times in seconds."""

    steps_probed: int
    step_seconds: float
    """The median."""
    step_seconds_range: tuple[float, float]
    start_seconds: float
    peak_rss_bytes: int
    epochs: int
    steps: int
    checkpoints: int
    """Epochs, steps and checkpoints of the whole run."""
    checkpoint_bytes: int
    recovery_bytes: int
    decoded_bytes: int
    """All training images and labels, decoded."""
    private_bytes: int
    """What each process keeps of decoded images that the shared memory has no room for."""
    shm_bytes: int
    dataset_bytes: int


class EvaluationProbe(Frozen):
    """What scoring a few images costs. Times in seconds."""

    images_probed: int
    image_seconds: float
    start_seconds: float
    """Opening the first checkpoint, whose structure is exported then."""
    open_seconds: float
    """Opening another one."""
    images: int
    """Validation images of the run."""
    peak_rss_bytes: int
