"""The figures of stored runs as lists of plain records: `pandas.DataFrame(list_runs())` is a table."""

from typing import TYPE_CHECKING

from components.api.naming import run_named, store_of_environment, tracking_of_environment

if TYPE_CHECKING:
    from components.runs.result import RunResult
    from components.storage.client import Store

Figure = str | int | float | None
"""A value of a record. None stands for a figure that does not exist, such as the mIoU of an unfinished run."""


def list_runs(dataset: str = "") -> list[dict[str, Figure]]:
    """Return a record for each run in the object store, newest first.

    The fields are run_key, state (finished, trained, started, interrupted, failed, running, or unreadable if another
    version wrote it), dataset, labeled_ratio, mIoU in [0, 1], objects, size in bytes, and created (UTC, ISO 8601).

    Args:
        dataset: only runs on the dataset with this name.

    Raises:
        UserError: the object store is not configured or cannot be reached.
    """
    from components.runs.stored import stored_runs

    runs = [run.as_dict() for run in stored_runs(store_of_environment()) if dataset in ("", run.dataset)]
    return [{("mIoU" if name == "miou" else name): value for name, value in run.items()} for run in runs]


def checkpoint_figures(run: str = "@last") -> list[dict[str, Figure]]:
    """Return a record for each scored checkpoint of a finished run, by epoch.

    The fields are run_key, epoch, step, the mIoU of each variant (left, right, ensemble), and mIoU_low and mIoU_high,
    the 95 % interval of the winner's variant; all in [0, 1].

    Args:
        run: a run key, an unambiguous part of one, @last, @best or @champion.

    Raises:
        UserError: there is no such run, or it is not finished.
    """
    result = _result(run)
    return [
        {"run_key": result.run_key, **scores.model_dump(exclude={"IoU"})}
        for scores in sorted(result.checkpoints, key=lambda scores: scores.epoch)
    ]


def class_figures(run: str = "@last") -> list[dict[str, Figure]]:
    """Return a record for each class, with the metrics of a finished run's best checkpoint.

    The fields are run_key, name, iou, accuracy, dice, boundary_iou, and share, the class's share of the labelled
    pixels; all in [0, 1]. A class that is neither in the truth nor predicted has no IoU.

    Args, Raises: as for `checkpoint_figures`.
    """
    result = _result(run)
    return [{"run_key": result.run_key, **figures.model_dump()} for figures in result.best.per_class]


def training_curve(run: str = "@last") -> list[dict[str, Figure]]:
    """Return a record for each point of a run's training curve, in order: at most 500.

    The fields are run_key, step, epoch (with a fraction), loss_supervised and loss_cross, which are means since the
    point before, and learning_rate.

    Args, Raises: as for `checkpoint_figures`.
    """
    from components.contract import read
    from components.errors import UserError
    from components.runs.result import TrainingCurve
    from components.storage import keys

    store, run_key = _found(run)
    key = keys.training_curve(run_key)
    value = store.find_json(key)
    if value is None:
        raise UserError(f"run {run_key} has no training curve: it is not trained yet, or an older version trained it")
    curve = read(TrainingCurve, value, store.uri(key))
    return [
        {"run_key": run_key, "epoch": point.step / curve.steps_per_epoch, **point.model_dump()}
        for point in curve.points
    ]


def _found(run: str) -> "tuple[Store, str]":
    from components.runs.stored import find_run_key

    store = store_of_environment()
    return store, find_run_key(store, run_named(store, run, tracking_of_environment))


def _result(run: str) -> "RunResult":
    from components.errors import UserError
    from components.runs.result import find_result

    store, run_key = _found(run)
    result = find_result(store, run_key)
    if result is None:
        raise UserError(f"run {run_key} is not finished: `cps run --resume {run_key}` finishes it")
    return result
