"""A GPU belongs to one process at a time. No GPU is needed: only the number of cards is made up."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paddle
import pytest

from components.inference import cards, engine
from components.inference.cards import card_count, claimed_card, use_card

CLAIM = """
import sys
from components.inference import cards
cards.card_count = lambda: int(sys.argv[1])
print(cards.claimed_card(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    cards._claimed_once.cache_clear()
    yield
    cards._claimed_once.cache_clear()


def test_two_processes_never_share_a_card() -> None:
    """The third of three processes on two cards gets none, until one of the others ends."""
    started = []
    try:
        for expected in ("0", "1", "None"):
            process = subprocess.Popen(
                [sys.executable, "-c", CLAIM, "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            started.append(process)
            assert process.stdout is not None
            assert process.stdout.readline().strip() == expected
        started[0].kill()
        started[0].wait(30)
        assert cards._claim(0)
        assert not cards._claim(1)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_card_is_known_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f2a")
    assert [cards._lock_file(number).name for number in range(2)] == ["3", "GPU-8f2a"]


def test_this_machine_is_asked_and_not_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(cards, "_DRIVERS", ("/dev/null",))
    assert card_count() == 0
    assert claimed_card() is None
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    assert card_count() == 2
    monkeypatch.setattr(cards, "_DRIVERS", ("/dev/no-such-driver",))
    assert card_count() == 0


def test_auto_takes_a_card_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "claimed_card", lambda: 0)
    assert engine.choose() == engine.choose(allow_bf16=True) == "paddle"
    monkeypatch.setattr(engine, "claimed_card", lambda: None)
    assert engine.choose() != "paddle"


def test_paddle_uses_the_claimed_card_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device, a GPU build would use the first card, whoever has claimed it."""
    chosen: list[str] = []
    monkeypatch.setattr(paddle, "set_device", chosen.append)
    for card in (1, None):
        monkeypatch.setattr(cards, "claimed_card", lambda card=card: card)
        assert use_card() == card
    assert chosen == ["gpu:1", "cpu"]
