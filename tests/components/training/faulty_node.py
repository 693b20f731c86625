"""components.training.multi_node.node with faulty_worker.py for its processes; a fault may terminate it."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[3]))
from components.training.multi_node import node
from components.training.supervision import supervisor

if __name__ == "__main__":
    os.environ["SUPERVISOR"] = str(os.getpid())
    worker = SimpleNamespace(__file__=str(Path(__file__).with_name("faulty_worker.py")))
    supervisor.worker = worker  # type: ignore[assignment, attr-defined] # stands in for the module
    node.main()
