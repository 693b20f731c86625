"""paddle.distributed.launch, dying with the process that started it: `launcher.py LAUNCH_ARGUMENTS…`."""

import os
import sys
from pathlib import Path


def main() -> None:
    # Started by path: the project may be installed, or be on the parent's path only. A module's own folder, which
    # Python puts first, has modules with the names of others' packages.
    sys.path[0] = str(Path(__file__).parents[3])
    from components.step_guard import PARENT_VARIABLE, die_with_parent

    die_with_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    from paddle.distributed.launch.main import launch

    launch()


if __name__ == "__main__":
    main()
