"""Run one training process, alone or as a rank of paddle.distributed.launch: `worker.py RUN_KEY FOLDER`."""

import os
import sys
from pathlib import Path


def main() -> None:
    # This file is run by path, because the project may be on the parent's path only.
    sys.path[0] = str(Path(__file__).parents[3])
    from components.progress import EVENTS_VARIABLE
    from components.step_guard import die_with_parent
    from components.storage.client import reopen_store
    from components.tracking.address import TRACKING_VARIABLE
    from components.training.process import train_here
    from components.training.supervision.endings import explained, stacks_path

    run_key, folder = sys.argv[1], Path(sys.argv[2])
    die_with_parent()
    rank, here = int(os.environ.get("PADDLE_TRAINER_ID", "0")), int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    alone = os.environ.get("PADDLE_TRAINERS_NUM", "1") == "1"
    if rank != 0:
        # Only the first rank reports progress and logs to MLflow.
        os.environ[EVENTS_VARIABLE] = os.devnull
        os.environ.pop(TRACKING_VARIABLE, None)
    with explained(folder, rank):
        train_here(reopen_store(), run_key, processes=here, alone=alone, stacks=stacks_path(folder, rank))


if __name__ == "__main__":
    main()
