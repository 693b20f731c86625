"""A webhook that listens, and CPS_WEBHOOK_URL set to it."""

from collections.abc import Iterator

import pytest

from components.runs import webhook as module
from tests.components.runs.webhook_server import Webhook, listening


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with listening() as webhook:
        monkeypatch.setenv("CPS_WEBHOOK_URL", webhook.url)
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
        yield webhook
