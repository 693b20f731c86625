"""Checks of the pipeline parameters that no dataset or recipe decides: how the work is shared, what is predicted."""

import os

from components.errors import UserError

MOST_PROCESSES = 1024
MOST_SHARDS = 256
IMAGE_SETS = ("val", "test", "unlabeled")


def check_sharing(*, processes: int, eval_shards: int) -> None:
    """Raises UserError."""
    if not 1 <= processes <= MOST_PROCESSES:
        raise UserError(f"processes is {processes}: give a whole number from 1 to {MOST_PROCESSES}")
    if not 1 <= eval_shards <= MOST_SHARDS:
        raise UserError(f"eval_shards is {eval_shards}: give a whole number from 1 to {MOST_SHARDS}")


def check_prediction(*, images: str, limit: int) -> None:
    """Raises UserError."""
    known = images in IMAGE_SETS or images.startswith("s3://") or set("*?[") & set(images)
    if not known and not os.path.exists(images):
        raise UserError(
            f"predict_images is {images!r}: give {', '.join(IMAGE_SETS)}, an s3:// prefix, "
            "or a file or folder that exists"
        )
    if limit < 0:
        raise UserError(f"predict_limit is {limit}: give a whole number above 0, or 0 for all")
