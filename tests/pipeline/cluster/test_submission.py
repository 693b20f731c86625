"""Runs and schedules on a server that speaks the API of Kubeflow Pipelines: see kfp_server."""

import json
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import UserError, WorkFailed
from components.runs.request import PredictionRequest, Resources, RunRequest
from pipeline.cluster import status, submission
from pipeline.cluster.client import Connection, Server, Unreachable
from pipeline.cluster.status import RunStatus, StepStatus
from pipeline.compile import compile_pipeline
from pipeline.parameters import STEPS, PipelineParameters
from tests.pipeline.kfp_server import BASE, KfpServer


@pytest.fixture
def server(kfp_server: KfpServer) -> Server:
    return Server(Connection(kfp_server.address))


PLACE = submission.Placing("a run", "cps")
PARAMETERS = PipelineParameters(
    RunRequest(labeled_ratio="1/4"), Resources(gpus=2, node_selector={"spot": "true"}), PredictionRequest()
)


def submit(server: Server, **arguments: Any) -> submission.Submitted:
    """A run with PARAMETERS, and with further arguments of the DAG."""
    wanted: Any = SimpleNamespace(as_dag=lambda: {**PARAMETERS.as_dag(), **arguments})
    return submission.submit(server, submission.find_or_upload(server), wanted, PLACE)


class TestSubmission:
    def test_a_pipeline_is_uploaded_once_and_found_by_content_after_that(
        self, server: Server, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(submission, "compile_pipeline", compile_pipeline)  # each time anew
        first = submission.find_or_upload(server)
        again = submission.find_or_upload(server)
        assert (first.uploaded, again.uploaded) == (True, False)
        assert again.version_id == first.version_id
        assert first.name.startswith("0.2.0-")
        other = submission.find_or_upload(server, ("accesskey", "secretkey"))
        assert other.uploaded
        assert other.name != first.name
        assert other.pipeline_id == first.pipeline_id
        assert len(kfp_server.made("pipelines")) == 1
        assert len(kfp_server.records.versions) == 2

    def test_a_run_is_of_that_version_with_its_parameters_in_an_experiment(
        self, server: Server, kfp_server: KfpServer
    ) -> None:
        made = submit(server)
        (body,) = kfp_server.made("runs")
        assert body["pipeline_version_reference"] == {
            "pipeline_id": made.version.pipeline_id,
            "pipeline_version_id": made.version.version_id,
        }
        sent = body["runtime_config"]["parameters"]
        assert sent == PARAMETERS.as_dag()
        assert (sent["labeled_ratio"], sent["gpus"], sent["node_selector"]) == ("1/4", 2, {"spot": "true"})
        assert kfp_server.records.experiments[body["experiment_id"]]["display_name"] == "cps"
        assert made.url == f"{kfp_server.address}/#/runs/details/{made.run_id}"
        submit(server)
        assert len(kfp_server.records.experiments) == 1

    def test_the_people_who_upload_the_same_at_once_all_get_it(
        self, server: Server, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other one was faster, between our look and our upload: the server says 409."""
        submission.find_or_upload(server)
        look = submission.find_pipeline
        answers = iter(["", None])
        monkeypatch.setattr(submission, "find_pipeline", lambda s: "" if next(answers, None) == "" else look(s))
        version_look = submission._version_id
        versions = iter(["", None])
        monkeypatch.setattr(
            submission, "_version_id", lambda *given: "" if next(versions, None) == "" else version_look(*given)
        )
        found = submission.find_or_upload(server)
        assert not found.uploaded
        assert found.version_id in kfp_server.records.versions

    def test_a_pipeline_of_that_name_that_one_may_not_see_is_said(self, server: Server, kfp_server: KfpServer) -> None:
        submission.find_or_upload(server)
        (pipeline,) = kfp_server.records.pipelines.values()
        pipeline["display_name"] = "hidden"
        with pytest.raises(WorkFailed, match="that you cannot see"):
            submission.find_or_upload(server)

    def test_a_parameter_that_the_pipeline_does_not_have_is_refused_by_the_server(self, server: Server) -> None:
        with pytest.raises(UserError, match="are not required by pipeline: colour"):
            submit(server, colour="red")
        with pytest.raises(UserError, match="input parameter seed requires type number_integer"):
            submit(server, seed="1")


class TestFollowing:
    def follow(self, server: Server, run_id: str) -> list[RunStatus]:
        seen: list[RunStatus] = []
        last = status.follow(server, run_id, seen.append, sleep=lambda _seconds: None)
        assert seen[-1] == last
        return seen

    def test_a_run_is_followed_through_its_steps_to_its_end(self, server: Server) -> None:
        seen = self.follow(server, submit(server).run_id)
        assert [run.state for run in seen] == ["RUNNING"] * (len(seen) - 1) + ["SUCCEEDED"]
        states = [{step.name: step.state for step in run.steps} for run in seen]
        assert states[0]["train"] == ""
        assert {"", "PENDING", "RUNNING", "SUCCEEDED"} == {state["train"] for state in states}
        assert set(states[-1]) == set(STEPS)
        assert set(states[-1].values()) == {"SUCCEEDED"}
        evaluate = next(step for step in seen[-1].steps if step.name == "evaluate")
        assert (evaluate.done, evaluate.total) == (2, 2)
        assert {step.seconds for step in seen[-1].steps} == {1.0}
        assert seen[-1].finished

    def test_the_steps_are_those_of_the_pipeline(self) -> None:
        from pipeline import steps

        assert {name.replace("-", "_") for name in STEPS} <= set(vars(steps))

    def test_a_failed_step_is_named_and_the_exit_handler_has_run(self, server: Server, kfp_server: KfpServer) -> None:
        kfp_server.records.failing = "train"
        last = self.follow(server, submit(server).run_id)[-1]
        assert last.state == "FAILED"
        states = {step.name: step.state for step in last.steps}
        assert (states["train"], states["evaluate"], states["finish"]) == ("FAILED", "", "SUCCEEDED")
        assert status.failure(last, "http://ui/x") == "run a run failed in step 'train'; see its log at http://ui/x"

    def test_a_terminated_run_is_not_called_failed(self, server: Server) -> None:
        made = submit(server)
        seen: list[RunStatus] = []

        def note(run: RunStatus) -> None:
            seen.append(run)
            if len(seen) == 3:
                status.terminate(server, made.run_id)

        last = status.follow(server, made.run_id, note, sleep=lambda _seconds: None)
        assert "CANCELING" in [run.state for run in seen]
        assert last.state == "CANCELED"
        assert "was terminated" in status.failure(last, "")
        with pytest.raises(UserError, match="Failed to terminate"):
            status.terminate(server, made.run_id)

    def test_a_server_that_is_away_for_a_moment_is_waited_for(self, server: Server, kfp_server: KfpServer) -> None:
        made, waiting = submit(server), list[str]()

        def note(run: RunStatus) -> None:
            if run.waiting:
                waiting.extend(run.waiting)
            elif run.state == "RUNNING" and not waiting:
                kfp_server.down = 3

        last = status.follow(server, made.run_id, note, sleep=lambda _seconds: None)
        assert (last.state, last.waiting) == ("SUCCEEDED", ())
        assert len(waiting) == 3
        assert waiting[0].startswith(f"the KFP server {kfp_server.address} does not respond")
        assert waiting[0].endswith("; trying for up to 10 min 00 s, and the run goes on meanwhile")

    def test_one_that_stays_away_is_given_up_and_the_run_is_named(
        self, server: Server, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(server)
        kfp_server.down = 1_000_000
        monkeypatch.setattr(status, "AWAY_SECONDS", 0.0)
        with pytest.raises(WorkFailed, match=f"may still be active: `cps runs watch {made.run_id}`"):
            status.follow(server, made.run_id, lambda _run: None, sleep=lambda _seconds: None)


class TestLists:
    def test_pages_are_put_together_newest_first_and_other_pipelines_left_out(
        self, server: Server, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status, "PAGE", 3)
        version = submission.find_or_upload(server)
        made = [
            submission.submit(server, version, PARAMETERS, replace(PLACE, name=f"run {number}")).run_id
            for number in range(8)
        ]
        foreign = kfp_server.records.runs[made[3]].shown
        foreign["pipeline_version_reference"] = {"pipeline_id": "another", "pipeline_version_id": "one"}
        found = [run.run_id for run in status.list_runs(server)]
        assert found == [made[number] for number in (7, 6, 5, 4, 2, 1, 0)]
        assert len([path for _, path, _ in kfp_server.requests if path.startswith(f"{BASE}runs?")]) == 3
        assert [run.run_id for run in status.list_runs(server, limit=2)] == found[:2]

    def test_a_run_is_found_by_id_beginning_or_name(self, server: Server) -> None:
        made = submit(server).run_id
        for given in (made, made[:8], "a run"):
            assert status.find_run(server, given).run_id == made
        with pytest.raises(UserError, match=r"^'nothing' is not a run among the newest on .*; available: "):
            status.find_run(server, "nothing")
        with pytest.raises(UserError, match="not found"):
            status.find_run(server, "0" * 36)

    def test_nothing_is_there_at_first(self, server: Server) -> None:
        assert status.list_runs(server) == []

    def test_times_that_have_not_come_are_not_shown(self) -> None:
        assert StepStatus("train", "", 0.0, 0, 0) in status._steps([])


class TestConnection:
    def test_an_address_where_nothing_listens_is_one_line(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{probe.getsockname()[1]}"
            with pytest.raises(Unreachable, match=f"{address} does not respond: .*refused") as caught:
                Server(Connection(address))
        assert "\n" not in str(caught.value)
        assert "Max retries" not in str(caught.value)

    def test_who_is_not_known_is_told_so_at_once(self, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
        kfp_server.token = "the-right-one"
        with pytest.raises(UserError, match=r"authentication failed .401.: set KFP_EXISTING_TOKEN"):
            Server(Connection(kfp_server.address))
        assert len(kfp_server.requests) == 1
        monkeypatch.setenv("KFP_EXISTING_TOKEN", "the-right-one")
        assert submission.find_or_upload(Server(Connection(kfp_server.address))).uploaded

    def test_a_mounted_tokens_file_is_used(
        self, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        kfp_server.token = "mounted"
        (tmp_path / "token").write_text("mounted")
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
        assert submission.find_or_upload(Server(Connection(kfp_server.address))).uploaded

    def test_who_may_only_read_is_told_why(self, server: Server, kfp_server: KfpServer) -> None:
        kfp_server.read_only = True
        with pytest.raises(UserError, match=r"permission denied .403.: User 'reader' is not authorized"):
            submission.find_or_upload(server)

    def test_a_login_page_is_no_server(self, kfp_server: KfpServer) -> None:
        kfp_server.login_page = True
        with pytest.raises(UserError, match="is it a login page"):
            Server(Connection(kfp_server.address))

    def test_a_gateway_without_its_server_is_unreachable(self, kfp_server: KfpServer) -> None:
        kfp_server.down = 1
        with pytest.raises(Unreachable, match=r"does not respond .503.: upstream connect error"):
            Server(Connection(kfp_server.address))

    def test_the_endpoint_is_the_one_that_kfp_reads(
        self, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp_server.address)
        monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.com/pipeline/")
        found = Server(Connection())
        assert found.address == kfp_server.address
        assert found.url("runs") == "https://kubeflow.example.com/pipeline/#/runs"

    def test_without_any_it_is_said_how_to_name_one(
        self, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        with pytest.raises(UserError, match="set KF_PIPELINES_ENDPOINT or pass --endpoint"):
            Server(Connection())
        assert kfp_server.requests == []

    def test_what_it_prints_does_not_reach_standard_output(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        submit(server)
        assert capsys.readouterr().out == ""


def test_the_test_server_refuses_what_the_real_one_would() -> None:
    from tests.pipeline.kfp_records import Refused
    from tests.pipeline.kfp_server import checked

    with pytest.raises(Refused, match='unknown field "parameter"'):
        checked("V2beta1Run", {"runtime_config": {"parameter": {}}})
    with pytest.raises(Refused, match="invalid value for enum"):
        checked("V2beta1Run", {"state": "DONE"})
    assert checked("V2beta1Run", json.loads('{"state": "FAILED"}')) == {"state": "FAILED"}
