"""One rank of a training: what paddle.distributed.launch starts, as `worker.py RUN_KEY`."""

import os
import sys
from pathlib import Path

USER_ERROR = "user error: "


def main() -> None:
    # Started by path: the project may be installed, or be on the launcher's path only.
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from components.errors import UserError, WorkFailed
    from components.progress import EVENTS_VARIABLE
    from components.storage.client import open_store
    from components.tracking.client import TRACKING_VARIABLE
    from components.training.rank import train_here

    if os.environ["PADDLE_TRAINER_ID"] != "0":
        # The first rank speaks for all: to people, and to MLflow.
        os.environ[EVENTS_VARIABLE] = os.devnull
        os.environ.pop(TRACKING_VARIABLE, None)
    try:
        train_here(open_store(), sys.argv[1], processes=int(os.environ["PADDLE_TRAINERS_NUM"]))
    except UserError as error:
        print(f"{USER_ERROR}{error}", flush=True)
        sys.exit(2)
    except WorkFailed as error:
        print(error, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
