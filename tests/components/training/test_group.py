"""Processes that share a batch get the whole batch's gradient: by its arithmetic here, and over real gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from components.training.group import Group
from components.training.losses import Criterion
from tests.components.training.small_training import make_batch, make_pair, make_recipe


def gradients(network, images, labels, total):
    """What one process computes for its share; `total` is the count that its loss is divided by."""
    criterion = Criterion(make_recipe().loss, 255, min_kept=1, total=total)
    criterion.supervised(network(paddle.to_tensor(images)), paddle.to_tensor(labels)).backward()
    found = [parameter.grad.numpy().copy() for parameter in network.parameters() if parameter.grad is not None]
    network.clear_gradients()
    return found


def test_mean_of_shares_is_the_gradient_of_the_whole():
    network = make_pair(make_recipe()).networks["left"]
    network.eval()  # batch statistics would differ between shares: only with them frozen can it be exact
    batch = make_batch(0, size=4)
    batch.labels[:1, :20] = 255  # shares with different numbers of valid pixels
    whole = gradients(network, batch.labeled, batch.labels, lambda count: count)
    assert len(whole) > 20
    counts = [(batch.labels[part] != 255).sum() for part in (slice(0, 2), slice(2, 4))]
    assert counts[0] != counts[1]
    mean_count = paddle.to_tensor(float(np.mean(counts)))
    shares = [
        gradients(network, batch.labeled[part], batch.labels[part], lambda _count: mean_count)
        for part in (slice(0, 2), slice(2, 4))
    ]
    for expected, first, second in zip(whole, *shares, strict=True):
        np.testing.assert_allclose((first + second) / 2, expected, atol=1e-6)


def test_one_process_exchanges_nothing():
    group = Group()
    assert group.means([1.5, float("nan")])[0] == 1.5
    assert [list(part) for part in group.gather({"a": np.zeros(2, np.float32)})] == [["a"]]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left that paddle.distributed.launch started."""
    folder = tmp_path_factory.mktemp("ranks")
    rank = Path(__file__).with_name("gloo_rank.py")
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node=2", f"--log_dir={folder / 'logs'}", str(rank)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launch, str(folder)], env=environment, capture_output=True, text=True)
    logs = "".join(path.read_text() for path in (folder / "logs").glob("workerlog.*"))
    assert done.returncode == 0, logs
    return folder


def said(folder: Path, rank: int):
    return json.loads((folder / f"said.{rank}.json").read_text())


def curves(folder: Path, name: str, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(steps, 3) losses of both processes together, and of one with the whole batch."""
    both = said(folder, 0)["curves"][f"shared, {name}"]
    assert both == said(folder, 1)["curves"][f"shared, {name}"]
    return np.array(both), np.array(said(folder, rank)["curves"][f"whole, {name}"])


@pytest.mark.slow
class TestTwoProcessesOverGloo:
    def test_gradients_of_both_networks_are_those_of_the_whole_batch(self, two_ranks):
        shared = [np.load(two_ranks / f"shared.{rank}.npz") for rank in (0, 1)]
        whole = np.load(two_ranks / "whole.0.npz")
        assert said(two_ranks, 0)["valid"][0] != said(two_ranks, 1)["valid"][0]
        assert len(whole.files) > 50
        assert set(shared[0].files) == set(whole.files)
        for name in whole.files:
            np.testing.assert_allclose(shared[0][name], whole[name], rtol=0, atol=1e-6, err_msg=name)
            np.testing.assert_array_equal(shared[0][name], shared[1][name], err_msg=name)
        assert max(np.abs(whole[name]).max() for name in whole.files) > 1e-2, "gradients that are worth comparing"

    def test_mean_losses_are_those_of_the_whole_batch(self, two_ranks):
        first, second = said(two_ranks, 0), said(two_ranks, 1)
        np.testing.assert_allclose(first["means"], first["whole"], rtol=1e-5)
        assert first["means"] == second["means"]
        assert first["losses"] != second["losses"]

    def test_a_pixels_loss_is_the_same_to_the_bit_in_a_share_and_in_the_whole_batch(self, two_ranks):
        assert [said(two_ranks, rank)["pixels equal"] for rank in (0, 1)] == [[True, True]] * 2

    def test_weights_after_a_step_are_those_of_the_whole_batch(self, two_ranks):
        shared, whole = (np.load(two_ranks / f"stepped-{kind}.0.npz") for kind in ("shared", "whole"))
        assert len(whole.files) > 50
        for name in whole.files:
            np.testing.assert_allclose(shared[name], whole[name], rtol=0, atol=1e-6, err_msg=name)

    def test_losses_of_twenty_steps_are_those_of_the_whole_batch_where_statistics_are_frozen(self, two_ranks):
        shared, whole = curves(two_ranks, "frozen", 0)
        np.testing.assert_allclose(shared, whole, rtol=1e-8)
        assert whole[-1, 0] < 0.8 * whole[0, 0], "something is learned meanwhile"

    def test_processes_draw_together_what_one_draws_for_the_options_of_the_method(self, two_ranks):
        shared, whole = curves(two_ranks, "options", 1)
        np.testing.assert_allclose(shared, whole, rtol=1e-8)

    def test_twenty_steps_with_batch_statistics_are_those_of_the_whole_batch(self, two_ranks):
        """Losses, weights and running statistics, with micro-batches that both processes share."""
        shared, whole = curves(two_ranks, "batch statistics", 0)
        np.testing.assert_allclose(shared, whole, rtol=1e-8)
        assert whole[-1, 0] < 0.8 * whole[0, 0], "something is learned meanwhile"
        ours, theirs = (np.load(two_ranks / f"synchronised-{kind}.0.npz") for kind in ("shared", "whole"))
        assert sum(name.endswith("._variance") for name in theirs.files) > 10
        for name in theirs.files:
            scale = np.abs(theirs[name]).max()
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-6 * scale, err_msg=name)

    def test_single_precision_stays_near_it_where_rounding_changes_pseudo_labels(self, two_ranks):
        shared, whole = curves(two_ranks, "single precision", 1)
        np.testing.assert_allclose(shared[:3], whole[:3], rtol=1e-5)
        np.testing.assert_allclose(shared, whole, rtol=0.01)
        assert whole[-1, 0] < 0.8 * whole[0, 0], "something is learned meanwhile"

    def test_the_references_arithmetic_is_a_smaller_learning_rate_and_a_larger_weight_decay(self, two_ranks):
        """Why the recipes divide the references' learning rate by their number of processes: see the recipes."""
        (theirs, ours), again = (said(two_ranks, rank)["toy"] for rank in (0, 1))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        assert again == [theirs, ours]

    def test_totals_are_exact(self, two_ranks):
        assert [said(two_ranks, rank)["totals"] for rank in (0, 1)] == [[[1, 2**41 + 2], [6, 8]]] * 2

    def test_arrays_are_gathered_by_rank(self, two_ranks):
        expected = [{"a": [[rank] * 3] * 2, "b": [10 * rank, 10 * rank + 1]} for rank in (0, 1)]
        assert said(two_ranks, 0)["gathered"] == said(two_ranks, 1)["gathered"] == expected
