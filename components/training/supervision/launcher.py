"""Run paddle.distributed.launch and exit with the parent process: `launcher.py LAUNCH_ARGUMENTS…`."""

import os
import sys
from pathlib import Path


def main() -> None:
    # This file is run by path, because the project may be on the parent's path only. Replace the script's folder,
    # which Python puts first: its modules would shadow other packages of the same name.
    sys.path[0] = str(Path(__file__).parents[3])
    from components.step_guard import PARENT_VARIABLE, die_with_parent

    die_with_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    from paddle.distributed.launch.main import launch

    launch()


if __name__ == "__main__":
    main()
