"""Whether the agreement of the networks predicts the mIoU: Spearman's rank correlation over the checkpoints of runs.

    python -m tests.benchmarks.agreement_rank RESULT_JSON ...

Each argument is a run's result.json, copied from the object store. Prints CSV with a line per run, and one for the last
checkpoints of all runs.
"""

import sys
from pathlib import Path

from scipy.stats import spearmanr

from components.runs.result import RunResult


def main(paths: list[str]) -> None:
    results = [RunResult.model_validate_json(Path(path).read_text()) for path in paths]
    print("run_key,checkpoints,spearman,p_value")
    for result in results:
        _line(result.run_key, [(row.agreement, row.ensemble) for row in result.checkpoints])
    _line(
        "last checkpoints", [(result.checkpoints[-1].agreement, result.checkpoints[-1].ensemble) for result in results]
    )


def _line(name: str, pairs: list[tuple[float | None, float | None]]) -> None:
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if len(known) < 3:
        print(f"{name},{len(known)},,")
        return
    found = spearmanr([one for one, _ in known], [other for _, other in known])
    print(f"{name},{len(known)},{found.statistic:.3f},{found.pvalue:.3g}")


if __name__ == "__main__":
    main(sys.argv[1:])
