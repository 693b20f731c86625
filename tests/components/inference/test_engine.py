"""Every engine against eager Paddle, on networks that have learned something."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from components.errors import UserError, WorkFailed
from components.inference import engine, exported, sessions
from components.inference.compiled import CompiledNetworks
from components.inference.engine import ENGINES, all_logits, choose, is_exact, open_engines
from components.inference.paddle_engine import Weights
from components.inference.sessions import RUNTIMES, why_not
from components.networks.onnx_graph import fill
from components.networks.structures import build
from components.networks.weights import state_arrays
from tests.components.inference.colored_scenes import CLASSES, SIZE, scenes


@pytest.mark.parametrize("name", RUNTIMES)
def test_agrees_with_eager_paddle(name: str, trained: Weights) -> None:
    if why_not(name) and name not in ("onnxruntime", "openvino"):
        pytest.skip(why_not(name))
    windows, labels = scenes(6, 1)
    expected = open_engines("paddle", trained)
    found = open_engines(name, trained)
    assert list(found) == ["left", "right"]
    together = all_logits(list(found.values()), windows)
    for branch, both in zip(found, together, strict=True):
        reference, logits = expected[branch].logits(windows), found[branch].logits(windows)
        assert (found[branch].name, found[branch].exact) == (name, is_exact(name))
        assert (logits.shape, logits.dtype) == ((6, CLASSES, SIZE, SIZE), np.dtype(np.float32))
        assert (reference.argmax(axis=1) == labels).mean() > 0.9  # it has learned something
        same = (logits.argmax(axis=1) == reference.argmax(axis=1)).mean()
        if is_exact(name):
            np.testing.assert_allclose(logits, reference, atol=1e-4)
            assert same >= 0.9999
        else:
            assert same >= 0.995
        np.testing.assert_array_equal(both, logits)


SESSION = """
import os, signal, sys, threading
import numpy as np
import onnx.parser
from components.inference.sessions import OpenVinoSession

shapes = "(float[N,3,8,8] windows) => (float[N,3,8,8] only)"
model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> g ' + shapes + " {only = Relu(windows)}")
session = OpenVinoSession(model, "f32")
"""

FIRST_WINDOWS = """
together = threading.Barrier(8)

def run():
    together.wait()
    session.run(np.zeros((1, 3, 8, 8), np.float32))

threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""

TOLD_TO_STOP = """
another = OpenVinoSession(model, "f32")
del session
del another
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_threads_that_are_the_first_together_do_not_hang() -> None:
    # Only a process's first windows can: two in five such processes did, before one thread went first.
    started = [subprocess.Popen([sys.executable, "-c", SESSION + FIRST_WINDOWS]) for _ in range(6)]
    try:
        assert [process.wait(timeout=120) for process in started] == [0] * 6
    finally:
        for process in started:
            process.kill()


def test_a_process_whose_networks_were_given_up_can_be_told_to_stop() -> None:
    assert subprocess.run([sys.executable, "-c", SESSION + TOLD_TO_STOP], check=False, timeout=120).returncode == 143


def test_networks_that_share_a_stem_run_it_once(trained: Weights) -> None:
    left, right = (dict(trained.states[branch]) for branch in ("left", "right"))
    right.update({name: value for name, value in left.items() if name.startswith(("stages.0.", "stages.1."))})
    shared = replace(trained, states={"left": left, "right": right})
    windows, _ = scenes(2, 2)
    expected = [item.logits(windows) for item in open_engines("paddle", shared).values()]
    found = all_logits(list(open_engines("onnxruntime", shared).values()), windows)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    skeleton = exported.skeleton("small-fpn", CLASSES, (SIZE, SIZE))
    counts = [
        Counter(node.op_type for node in fill(skeleton, weights.states, origin="").graph.node)["Conv"]
        for weights in (trained, shared)
    ]
    assert counts == [22, 18]  # 11 convolutions a network, 4 of them in the first two stages


def test_equal_networks_are_computed_once(trained: Weights) -> None:
    same = {"left": trained.states["left"], "right": trained.states["left"]}
    engines = open_engines("onnxruntime", replace(trained, states=same))
    left, right = all_logits(list(engines.values()), scenes(1, 3)[0])
    np.testing.assert_array_equal(left, right)


def test_an_export_holds_no_weights_and_is_made_once(engine_cache: Path) -> None:
    first = exported.skeleton("small-fpn", 3, (32, 48))
    assert len(first) < 100_000  # its networks have 1.2 MB
    assert all(not tensor.raw_data for tensor in onnx.load_from_string(first).graph.initializer)
    [path] = (engine_cache / "engines").glob("small-fpn-3-32x48-*.onnx")
    before = path.stat().st_mtime_ns
    assert exported.skeleton("small-fpn", 3, (32, 48)) == first
    assert path.stat().st_mtime_ns == before


def test_a_failed_export_is_not_tried_again(engine_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every checkpoint of a sweep would try, for seconds each."""
    tried = []

    def refuse(*_: object) -> None:
        tried.append(1)
        raise ValueError("an operator is unknown\n\n")

    monkeypatch.setattr("components.networks.export.export", refuse)
    with pytest.raises(WorkFailed, match=r"small-fpn cannot be exported to ONNX: an operator is unknown$"):
        exported.skeleton("small-fpn", 3, (40, 40))
    with pytest.raises(WorkFailed, match=r"an operator is unknown \(remove .*40x40.*\.failed\.txt to try again\)"):
        exported.skeleton("small-fpn", 3, (40, 40))
    assert len(tried) == 1
    [failure] = (engine_cache / "engines").glob("*40x40*.failed.txt")
    failure.unlink()
    monkeypatch.undo()
    assert exported.skeleton("small-fpn", 3, (40, 40))


@pytest.mark.parametrize("error", [MemoryError("out of memory"), OSError("no space")])
def test_a_failure_that_may_pass_is_tried_again(
    error: Exception, engine_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("components.networks.export.export", fail)
    with pytest.raises(WorkFailed, match=f"cannot be exported to ONNX: .*{error}"):
        exported.skeleton("small-fpn", 3, (40, 48))
    assert not list((engine_cache / "engines").glob("*40x48*"))


@pytest.mark.usefixtures("engine_cache")
def test_exports_are_compared_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, TF32 makes the logits differ, so another process compares them."""
    processes = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        processes.append(command)
        Path(command[-1]).write_bytes(b"graph")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(exported, "device", lambda: "gpu:0")
    monkeypatch.setattr(subprocess, "run", run)
    assert exported.skeleton("small-fpn", 3, (40, 56)) == b"graph"
    assert processes[0][1:4] == ["-m", "components.inference.exported", "small-fpn"]


def test_a_killed_export_is_no_fault_of_the_network(
    engine_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -TERM $$\n")
    killed.chmod(0o700)
    monkeypatch.setattr(exported, "device", lambda: "gpu:0")
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(
        WorkFailed, match="the export of small-fpn to ONNX was stopped by SIGTERM: run the same command"
    ):
        exported.skeleton("small-fpn", 3, (40, 64))
    assert not list((engine_cache / "engines").glob("*40x64*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("structure", "size"),
    [("mobilenetv2-fpn", (96, 128)), ("deeplabv3p-resnet50", (65, 65)), ("paddleseg:PPLiteSeg", (256, 256))],
)
def test_structures(structure: str, size: tuple[int, int]) -> None:
    network = build(structure, 5, seed=0)
    weights = Weights({"only": structure}, 5, {"only": state_arrays(network)}, "fresh")
    windows = np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32)
    [reference] = (item.logits(windows) for item in open_engines("paddle", weights).values())
    for name in ("onnxruntime", "openvino"):
        [logits] = (item.logits(windows) for item in open_engines(name, weights).values())
        # Fresh networks have logits of any size, so the bound is a share of the largest.
        np.testing.assert_allclose(logits, reference, atol=1e-4 * max(1, np.abs(reference).max()))


@pytest.mark.slow
def test_exports_in_a_process_without_paddle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = onnx.load_from_string(exported.skeleton("small-fpn", 3, (32, 32)))
    monkeypatch.setenv("CPS_CACHE", str(tmp_path))
    monkeypatch.delitem(sys.modules, "paddle")
    there = onnx.load_from_string(exported.skeleton("small-fpn", 3, (32, 32)))
    # The exporter's names, and with them its order, come from a counter of the process; what is there does not.
    assert {tensor.name for tensor in there.graph.initializer} == {tensor.name for tensor in here.graph.initializer}
    assert Counter(node.op_type for node in there.graph.node) == Counter(node.op_type for node in here.graph.node)
    with pytest.raises(WorkFailed, match=r"no-such cannot be exported to ONNX: .*unknown network structure"):
        exported.skeleton("no-such", 3, (32, 32))


def test_weights_of_another_structure_are_refused(trained: Weights) -> None:
    windows, _ = scenes(1, 0)
    state = dict(trained.states["left"])
    state["decoder.classify.bias"] = np.zeros(7, np.float32)
    weights = Weights({"only": "small-fpn"}, CLASSES, {"only": state}, "x.safetensors")
    with pytest.raises(UserError, match=r"x\.safetensors: tensor 'decoder.classify.bias' has shape \(7,\)"):
        CompiledNetworks("onnxruntime", weights).run(["only"], windows)
    del state["decoder.classify.bias"]
    with pytest.raises(UserError, match=r"x\.safetensors: no tensor 'decoder.classify.bias'"):
        CompiledNetworks("onnxruntime", weights).run(["only"], windows)


def test_what_cannot_be_exported_runs_in_paddle_if_the_choice_was_ours(
    trained: Weights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> bytes:
        raise WorkFailed("small-fpn cannot be exported to ONNX: for a test")

    monkeypatch.setattr(exported, "skeleton", refuse)
    windows, _ = scenes(2, 0)
    with pytest.raises(WorkFailed, match="for a test"):
        open_engines("onnxruntime", trained)["left"].logits(windows)
    found = open_engines("onnxruntime", trained, or_paddle=True)
    expected = open_engines("paddle", trained)["left"].logits(windows)
    np.testing.assert_allclose(found["left"].logits(windows), expected, atol=1e-5)
    assert found["left"].name == "paddle"
    assert "for a test; using eager paddle instead" in capsys.readouterr().err


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"onnxruntime", "openvino", "openvino-bf16"}
    monkeypatch.setattr(engine, "installed_runtimes", lambda: [name for name in RUNTIMES if name in installed])
    monkeypatch.setattr(engine, "why_not", lambda name: "" if name in installed else "it is not installed")
    assert choose() == "onnxruntime"
    assert choose(allow_bf16=True) == "openvino-bf16"
    assert choose("openvino") == "openvino"
    with pytest.raises(UserError, match=r"'openvino-bf16' rounds to bfloat16, which is not allowed: allow bfloat16"):
        choose("openvino-bf16")
    installed -= {"onnxruntime", "openvino-bf16"}
    assert choose(allow_bf16=True) == "openvino"
    with pytest.raises(UserError, match=r"engine 'onnxruntime' is not available: it is not installed"):
        choose("onnxruntime")
    installed.clear()
    assert choose() == "paddle"
    with pytest.raises(UserError, match=rf"unknown engine 'tensorrt': choose one of {', '.join(ENGINES)}"):
        choose("tensorrt")


def test_onnxruntime_on_a_gpu_is_chosen_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="this onnxruntime supports only the CPU; install onnxruntime-gpu in its place"):
        choose("onnxruntime-cuda")
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert choose("onnxruntime-cuda") == "onnxruntime-cuda"
    assert choose() == "onnxruntime"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_cannot_be_used_is_no_silent_fallback(trained: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed build has the CPU's provider only, as onnxruntime has on a machine without a driver."""
    monkeypatch.setattr(sessions, "_has_cuda_provider", lambda: True)
    with pytest.raises(UserError, match="'onnxruntime-cuda' finds no usable GPU"):
        open_engines("onnxruntime-cuda", trained)["left"].logits(scenes(1, 0)[0])


def test_no_bfloat16_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "has_bf16", lambda: False)
    assert "no bfloat16 instructions" in why_not("openvino-bf16")
    assert why_not("openvino") == ""
