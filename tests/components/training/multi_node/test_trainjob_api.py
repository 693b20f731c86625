"""Who the step is to the Kubernetes API, and whom it believes."""

from pathlib import Path

import pytest
from kubernetes_api import JOBS

from components.errors import UserError
from components.training.multi_node import kubernetes_api as client
from components.training.multi_node.kubernetes_api import Rejected, Unreachable, this_cluster


def test_outside_of_a_cluster_one_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match=r"needs a Kubernetes cluster .* set nodes to 1"):
        this_cluster()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    with pytest.raises(UserError, match="not in a pod with a ServiceAccount token"):
        this_cluster(tmp_path)


def test_an_ipv6_address_is_written_as_one(account, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT_HTTPS", raising=False)
    assert this_cluster(account).address == "https://[fd00::1]:443"


def test_a_token_that_was_replaced_is_used_at_once(api, account):
    cluster = this_cluster(account)
    assert cluster.get(JOBS)["items"] == []
    api.state.token = "a-new-one"
    with pytest.raises(Rejected, match="Unauthorized"):
        cluster.get(JOBS)
    (account / "token").write_text("a-new-one")
    assert cluster.get(JOBS)["items"] == []


def test_a_server_with_another_authority_is_not_believed(api, account, monkeypatch):
    import certifi

    monkeypatch.setattr(client, "RETRY_SECONDS", (0.01,))
    (account / "ca.crt").write_bytes(Path(certifi.where()).read_bytes())
    with pytest.raises(Unreachable, match="certificate verify failed"):
        this_cluster(account).get(JOBS, patience=0.05)
    assert api.state.requests == [], "and it was told no token"


def test_an_api_that_stays_away_is_given_up(api, account):
    cluster = this_cluster(account)
    api.close()
    with pytest.raises(Unreachable, match="the Kubernetes API does not answer"):
        cluster.get(JOBS, patience=0.05)
