"""The POST itself: whole, once, to no other address, and never showing the one it goes to."""

import json

import pytest

from components.errors import WorkFailed
from components.runs.webhook import post
from pipeline.local.ports import LOOPBACK, free_internal_ports
from tests.components.runs.webhook_server import SECRET, Webhook


def test_the_document_arrives_as_json(webhook: Webhook) -> None:
    post(webhook.url, json.dumps({"text": "CPS run x finished: 45.0 % mIoU", "umlaut": "ä"}).encode())
    assert webhook.taken == [{"text": "CPS run x finished: 45.0 % mIoU", "umlaut": "ä"}]
    assert webhook.headers[0]["Content-Type"] == "application/json"


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_once_more(webhook: Webhook, code: int) -> None:
    webhook.answers = [code]
    post(webhook.url, b'{"n": 1}')
    assert webhook.taken == [{"n": 1}, {"n": 1}]


@pytest.mark.parametrize("code", [400, 404, 302])
def test_what_is_refused_is_not_sent_again_nor_elsewhere(webhook: Webhook, code: int) -> None:
    webhook.answers = [code]
    with pytest.raises(WorkFailed, match=f"^HTTP {code}$"):
        post(webhook.url, b'{"n": 1}')
    assert webhook.taken == [{"n": 1}]


@pytest.mark.parametrize(
    "address",
    [
        "http://{host}:{port}/{secret}",
        "http://nowhere.invalid/{secret}",
        "http://{host}:port/{secret}",
        "http://{host}/{secret} with a space",
        "ftp://{host}/{secret}",
        "{secret}",
    ],
)
@pytest.mark.usefixtures("webhook")
def test_no_error_shows_the_address(address: str) -> None:
    [port] = free_internal_ports(1)
    with pytest.raises(WorkFailed) as caught:
        post(address.format(host=LOOPBACK, port=port, secret=SECRET), b"{}")
    assert str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
