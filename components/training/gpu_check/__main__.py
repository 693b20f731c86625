"""`python3 -m components.training.gpu_check [--device cpu]`: the check where there is no `cps`, as in the image."""

import argparse
import sys

from components.step_guard import step_guard
from components.training.gpu_check.run import DEVICES, check_device
from components.training.gpu_check.table import HEADER, table_lines, verdict


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and score for some minutes on a device, and print a table.")
    parser.add_argument("--device", choices=DEVICES, default="gpu")
    device = parser.parse_args().device
    print(HEADER, flush=True)
    rows = []
    with step_guard("gpu-check"):  # removes the files of the check on SIGTERM too
        for row in check_device(device):
            rows.append(row)
            print("\n".join(table_lines(row)), flush=True)
    failed = verdict(rows)
    if failed:
        sys.exit(f"failed: {failed}")


if __name__ == "__main__":
    main()
