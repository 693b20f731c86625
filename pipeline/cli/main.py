"""The `cps` command. Nothing heavy is imported before a command needs it: `cps --help` answers at once."""

import os
import sys
import traceback
from collections.abc import Sequence

import click
from click.shell_completion import get_completion_class

from components.errors import UserError, WorkFailed, one_line
from components.extras import missing_package
from components.step_guard import FAILED, INTERRUPTED, USERS_MISTAKE
from pipeline.cli.dataset import dataset
from pipeline.cli.matrix import matrix
from pipeline.cli.plan import plan
from pipeline.cli.recipes import compile_, recipes
from pipeline.cli.reproduce import reproduce
from pipeline.cli.results import compare, label_next, predict, weights
from pipeline.cli.run import run
from pipeline.cli.runs import gc, runs
from pipeline.cli.services import down, status, up
from pipeline.cli.submit import schedule, submit
from pipeline.version import VERSION


class _Commands(click.Group):
    """Lists the commands in the order in which one meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="cps")
def cli() -> None:
    """Train semantic segmentation with few labels: Cross Pseudo Supervision as a Kubeflow pipeline.

    \b
    cps run                                    the whole pipeline on generated street scenes
    cps run --dataset photos/ --ratio 1/8      on your own images, an eighth of the labels used
    cps plan --dataset photos/ --memory 8GiB   what that will need, before it is paid for
    cps submit --ratio 1/8 --watch             the same on a Kubeflow Pipelines server
    cps matrix --baseline                      mIoU by number of labels: did CPS help?
    cps reproduce RUN                          the same run again: does it come to the same?
    cps label-next RUN                         which images to label for the next run
    cps compare                                mIoU of all runs
    cps weights pull RUN                       the trained network

    Settings come from the usual variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    MLFLOW_TRACKING_URI); without them an object store and an MLflow server are started on this machine, with
    their state in .cps (or CPS_HOME).
    """


VARIABLE = "_CPS_COMPLETE"
"""Click answers a shell's question where this is set."""


@click.command(short_help="Completion for bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options, recipes and file names after `cps`.

    \b
    Examples:
      cps completion bash > ~/.local/share/bash-completion/completions/cps
      cps completion fish > ~/.config/fish/completions/cps.fish
      eval "$(cps completion zsh)"                               (in ~/.zshrc, after compinit)
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "cps", VARIABLE).source())


for command in (
    run,
    plan,
    submit,
    schedule,
    matrix,
    reproduce,
    dataset,
    runs,
    compare,
    weights,
    predict,
    label_next,
    recipes,
    compile_,
    gc,
    up,
    down,
    status,
    completion,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 the user's mistake, 130 and 143 on signals."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = cli.main(arguments, prog_name="cps", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except UserError as error:
        return _say(error, USERS_MISTAKE)
    except WorkFailed as error:
        return _say(error, FAILED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
        if missing:
            return _say(missing, USERS_MISTAKE)
        traceback.print_exc()
        return _say(error, FAILED)


def _say(error: Exception, code: int) -> int:
    click.echo(f"cps: error: {one_line(error)}", err=True)
    return code
