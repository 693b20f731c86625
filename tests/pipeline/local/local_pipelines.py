"""Small pipelines that end in the ways a real one can, for the tests of local runs."""

# mypy: disable-error-code="untyped-decorator"
from kfp import dsl


@dsl.component(base_image="python", install_kfp_package=False)
def act(how: str, folder: str) -> str:
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    from components import progress
    from components.errors import UserError, WorkFailed
    from components.step_guard import step_guard

    with step_guard("act") as step:
        with Path(folder, "attempts").open("a") as file:
            file.write(how + "\n")
        if how == "mistake":
            raise UserError("label id 77 is none of the classes\nin a.png")
        if how == "failure":
            raise WorkFailed("the store went away")
        if how == "fault":
            print(1 / 0)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "long":
            Path(folder, "pid").write_text(str(os.getpid()))
            progress.advance("act", 1, 10, "loss 0.5")
            try:
                time.sleep(60)
            finally:
                Path(folder, "saved").touch()
        if how == "stubborn":
            Path(folder, "pid").write_text(str(os.getpid()))
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        progress.say("act", f"working on {how}")
        step.result(how=how, interpreter=sys.executable, temporary=os.environ["TMPDIR"])
    return how


@dsl.component(base_image="python", install_kfp_package=False)
def follow(how: str, folder: str) -> None:
    from pathlib import Path

    Path(folder, "followed").write_text(how)


@dsl.component(base_image="python", install_kfp_package=False)
def finish(status: dsl.PipelineTaskFinalStatus, folder: str) -> None:
    from pathlib import Path

    from components.step_guard import step_guard, stopping

    with step_guard("finish", even_when_stopping=True):
        Path(folder, "finished").write_text(f"{status.state} {stopping()}")


@dsl.pipeline(name="acting")
def acting(how: str, folder: str) -> None:
    with dsl.ExitHandler(finish(folder=folder)):
        task = act(how=how, folder=folder).set_retry(3, backoff_duration="60s")
        follow(how=task.output, folder=folder)
