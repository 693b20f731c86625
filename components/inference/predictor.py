"""Paddle's own inference engine: a network saved as a program, which Paddle optimises and runs by itself."""

import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.errors import WorkFailed
from components.inference.paddle_engine import Floats, Weights


class PredictorSession:
    """Where a compiled model would be. It needs no ONNX."""

    def __init__(self, weights: Weights, branches: Sequence[str], size: tuple[int, int]) -> None:
        """Raises WorkFailed where Paddle cannot save the structure as a program."""
        layers = weights.layers()
        folder = Path(tempfile.mkdtemp(prefix="cps-program-"))  # as long as this lives: a clone reads it again
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            self._predictors = [_open(layers[branch], size, folder / branch) for branch in branches]
        except Exception as error:  # Paddle raises kinds of its own
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
            raise WorkFailed(
                f"{weights.structures[branches[0]]} cannot be saved as a program of Paddle's: {reason}"
            ) from error
        self._of_thread = threading.local()

    def run(self, windows: Floats) -> list[Floats]:
        clones = getattr(self._of_thread, "clones", None)
        if clones is None:
            clones = self._of_thread.clones = [predictor.clone() for predictor in self._predictors]
        return [_logits(clone, windows) for clone in clones]


def _open(layer: Any, size: tuple[int, int], folder: Path) -> Any:
    from paddle import inference

    from components.networks.export import save_program

    layer.eval()
    program, parameters = save_program(layer, size, folder)
    config = inference.Config(str(program), str(parameters))
    config.disable_glog_info()
    config.disable_mkldnn()  # its kernels refuse programs of Paddle 3's own representation
    config.set_cpu_math_library_num_threads(1)
    return inference.create_predictor(config)


def _logits(predictor: Any, windows: Floats) -> Floats:
    entry = predictor.get_input_handle(predictor.get_input_names()[0])
    entry.copy_from_cpu(windows)
    predictor.run()
    found: Floats = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    return found
