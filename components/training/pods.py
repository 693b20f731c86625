"""What the pods of a training are made of, where it makes some of its own: as the pipeline's parameters say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Pods:
    """The pods of a training on several nodes, one on each."""

    image: str
    cpu: str
    memory: str
    """Amounts as Kubernetes writes them, each as request and limit."""
    gpus: int
    """In each pod; 0 trains on the CPU."""
    accelerator: str
    """The resource of a node that a GPU is, such as nvidia.com/gpu."""
    settings_config_map: str
    store_secret: str
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
