"""What `cps plan` measures with a few real steps, as its probes leave it for the forecast."""

from components.contract import Frozen


class TrainingProbe(Frozen):
    """What a few training steps cost, and what the whole run will have. Sizes in bytes, times in seconds."""

    steps_probed: int
    step_seconds: float
    """The median of steps that also learn from unlabelled images, or of all if there is no burn-in."""
    step_seconds_range: tuple[float, float]
    burn_in_steps: int = 0
    """Steps of the whole run that learn from labelled images alone, and that are counted in `steps`."""
    burn_in_step_seconds: float = 0.0
    """The median of those."""
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

    @property
    def seconds(self) -> float:
        """How long the whole training takes."""
        steps = self.steps - self.burn_in_steps
        return self.start_seconds + self.burn_in_steps * self.burn_in_step_seconds + steps * self.step_seconds


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


class WorkProbe(Frozen):
    """The arithmetic of a run, and how fast this machine loads its images."""

    epochs: int
    steps: int
    checkpoints: int
    batch_size: int
    crop: tuple[int, int]
    precision: str
    has_unlabeled: bool
    strong_views: int = 1
    """Mixed images that both networks learn from, for each pair of unlabelled images."""
    crop_flops: int
    """Floating-point operations of both networks' forward passes over one training crop."""
    window_flops: int
    """The same over one evaluation window."""
    windows: float
    """Evaluation windows of an image, over all scales and mirroring; the mean of some images."""
    val_images: int
    test_images: int
    images_per_step: int
    """Images that a training step loads, labelled and unlabelled."""
    burn_in_steps: int = 0
    """Steps of the run that load and learn from labelled images alone."""
    loader_images_per_second: float
    """Decoded and augmented by all cores together."""
    cores: int
