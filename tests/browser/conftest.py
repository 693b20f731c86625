"""Collected only by `make browser-test`, which names the browser."""

import os

collect_ignore_glob = [] if os.environ.get("CPS_TEST_BROWSER") else ["test_*.py"]
