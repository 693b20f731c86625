"""Whether the agreement of the networks predicts the mIoU: Spearman's rank correlation over the checkpoints of runs.

    python -m tests.benchmarks.agreement_rank RESULT_JSON ...

Each argument is a run's result.json, copied from the object store. Prints CSV with a line per run, and one for the last
checkpoints of all runs. `choice` is the mIoU of the checkpoint with the highest agreement, minus that of the last one,
in percentage points.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import spearmanr

from components.runs.result import CheckpointScores, RunResult


def main(paths: list[str]) -> None:
    results = [RunResult.model_validate_json(Path(path).read_text()) for path in paths]
    print("run_key,checkpoints,spearman,p_value,choice")
    for result in results:
        _line(result.run_key, _pairs(result.checkpoints), chooses=True)
    _line("last checkpoints", _pairs([result.checkpoints[-1] for result in results]), chooses=False)


def _pairs(checkpoints: Sequence[CheckpointScores]) -> list[tuple[float, float]]:
    pairs = [(row.agreement, row.ensemble) for row in checkpoints]
    return [(one, other) for one, other in pairs if one is not None and other is not None]


def _line(name: str, pairs: list[tuple[float, float]], *, chooses: bool) -> None:
    if len(pairs) < 3:
        print(f"{name},{len(pairs)},,,")
        return
    agreements, figures = zip(*pairs, strict=True)
    found = spearmanr(agreements, figures)
    chosen = figures[agreements.index(max(agreements))]
    choice = f"{100 * (chosen - figures[-1]):.2f}" if chooses else ""
    print(f"{name},{len(pairs)},{found.statistic:.3f},{found.pvalue:.3g},{choice}")


if __name__ == "__main__":
    main(sys.argv[1:])
