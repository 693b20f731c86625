"""Training runs in MLflow: found by their run key, logged without ever holding up the training."""

from components.tracking.client import Tracker, open_run

__all__ = ["Tracker", "open_run"]
