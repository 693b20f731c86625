"""The `cps` command. Commands import heavy modules only when they need them, so `cps --help` stays fast."""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from components.addresses import past_proxies
from components.disk import machine_error
from components.errors import UserError, WorkFailed, one_line
from components.extras import missing_package
from components.step_guard import FAILED, INTERRUPTED, USERS_MISTAKE
from pipeline.cli.commands.dataset import dataset, init
from pipeline.cli.commands.doctor import doctor
from pipeline.cli.commands.look import logs, open_
from pipeline.cli.commands.matrix import matrix
from pipeline.cli.commands.plan import plan
from pipeline.cli.commands.recipes import compile_, recipes
from pipeline.cli.commands.reproduce import reproduce
from pipeline.cli.commands.results import compare, label_next, predict, weights
from pipeline.cli.commands.run import run
from pipeline.cli.commands.runs import gc, runs
from pipeline.cli.commands.services import down, status, up
from pipeline.cli.commands.submit import schedule, submit
from pipeline.cli.mistakes import unknown_option
from pipeline.cli.project import apply
from pipeline.version import VERSION


class _Commands(click.Group):
    """A group that lists its commands in sections, in the order of their registration."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(len(name) for name in self.commands)
        for title, commands in SECTIONS.items():
            rows = [
                (str(command.name).ljust(width), command.get_short_help_str(formatter.width - width - 4))
                for command in commands
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="cps")
@click.pass_context
def cli(context: click.Context) -> None:
    """Train semantic segmentation with few labels: Cross Pseudo Supervision as a Kubeflow pipeline.

    \b
    cps run                                    run the whole pipeline on generated street scenes
    cps run --dataset photos/ --ratio 1/8      train on your own images with an eighth of the labels
    cps init photos/                           propose the classes and validation split that a folder lacks
    cps plan --dataset photos/ --memory 8GiB   forecast the time and memory that a run needs
    cps submit --ratio 1/8 --watch             run the pipeline on a Kubeflow Pipelines server
    cps matrix --baseline                      measure mIoU by number of labels, with and without CPS
    cps reproduce RUN                          repeat a run and compare the results
    cps label-next RUN                         suggest which images to label next
    cps compare                                list the mIoU of all runs
    cps weights pull RUN                       download the trained network

    Set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and MLFLOW_TRACKING_URI to use your own services.
    Without them, commands start an object store and an MLflow server on this machine and keep their state in .cps
    (or CPS_HOME).

    A file cps.yaml in the current directory may hold the options and services of a project; `cps run --save` writes it.
    The command line overrides the environment, which overrides the file.

    Exit codes: 0 success, 1 failure, 2 invalid input or a disk that cannot be written, 130 or 143 interrupted by a
    signal.
    """
    apply(context, Path())


VARIABLE = "_CPS_COMPLETE"
"""Shells set this variable to ask click for completions."""


@click.command(short_help="Print shell completion for bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets SHELL complete commands, options, recipes and file names after `cps`.

    \b
    Examples:
      cps completion bash > ~/.local/share/bash-completion/completions/cps
      cps completion fish > ~/.config/fish/completions/cps.fish
      eval "$(cps completion zsh)"                               (in ~/.zshrc, after compinit)
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "cps", VARIABLE).source())


SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Start": (init, dataset, recipes, plan, run, matrix, reproduce),
    "Look": (runs, logs, open_, compare),
    "Use weights": (weights, predict, label_next),
    "Cluster": (submit, schedule, compile_),
    "Services": (up, down, status, doctor, gc, completion),
}
"""The commands as `cps --help` lists them."""

for commands in SECTIONS.values():
    for command in commands:
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 invalid input, 130 and 143 on signals."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # print file names that are not UTF-8 as they are
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    os.environ.update(past_proxies(os.environ))  # for this process and its children: no proxy reaches this machine
    try:
        code = cli.main(arguments, prog_name="cps", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.NoSuchOption as error:
        given = sys.argv[1:] if arguments is None else arguments
        return _say(UserError(unknown_option(error, given)), USERS_MISTAKE)
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
        # The reader of our output has exited, as `head` does. Python would report that again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        explained = missing_package(error) if isinstance(error, ModuleNotFoundError) else machine_error(error)
        if explained:
            return _say(explained, USERS_MISTAKE)
        traceback.print_exc()
        return _say(error, FAILED)


def _say(error: Exception, code: int) -> int:
    click.echo(f"cps: error: {one_line(error)}", err=True)
    return code
