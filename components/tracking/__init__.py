"""Training runs in MLflow: found by their run key, and logged without delaying the training."""

from components.tracking.client import Tracker, open_run

__all__ = ["Tracker", "open_run"]
