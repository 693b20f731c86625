"""Generated street scenes, one at a time."""

from components.dataset.street.model import CLASSES
from components.dataset.street.photograph import draw_street

__all__ = ["CLASSES", "draw_street"]
