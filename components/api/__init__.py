"""The Python API, for services and scripts: load weights, segment images, read the figures of runs.

It finds the object store and MLflow in the environment, as the pipeline's steps do. `pipeline.api` has the same
functions, and those that need this machine: start a run, and use the embedded services. See docs/python-api.md.

Importing it is fast: NumPy, Paddle and the others are imported by the functions that need them.
"""

from components.api.figures import checkpoint_figures, class_figures, list_runs, training_curve
from components.api.model import ImageLike, Model, Prediction, load_model
from components.api.naming import find_run_key
from components.errors import UserError, WorkFailed

__all__ = [
    "ImageLike",
    "Model",
    "Prediction",
    "UserError",
    "WorkFailed",
    "checkpoint_figures",
    "class_figures",
    "find_run_key",
    "list_runs",
    "load_model",
    "training_curve",
]
