"""Every `cps` and `make` command line in the documentation is one that this version accepts."""

from pathlib import Path

import pytest

from tests.docs.command_lines import command_lines, pages, problem
from tests.project_files import REPOSITORY


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_exist(page: Path) -> None:
    wrong = [
        f"{page.relative_to(REPOSITORY)}:{number}: `{command}`: {why}"
        for number, command in command_lines(page.read_text())
        if (why := problem(command))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_check_looks_at_many_commands() -> None:
    assert sum(len(list(command_lines(page.read_text()))) for page in pages()) > 150


@pytest.mark.parametrize(
    "text",
    [
        "Run `cps rnu`.",
        "    cps run --datasett photos/",
        "    cps run \\\n        --set cps.wait=1",
        "```bash\ncps run --recipe demo --set cps.weight=many\n```",
        "```\ncd photos && .venv/bin/cps run --seed one\n```",
        "A span that goes over the end of a line, `cps runs\nsow RUN`, counts too.",
        "    cps weights pull RUN --format tiff",
        "    make demmo",
    ],
)
def test_a_wrong_command_is_found(text: str) -> None:
    [(_, command)] = command_lines(text)
    assert problem(command)


@pytest.mark.parametrize(
    "text",
    [
        "    cps run --dataset photos/ --ratio 1/4 --set cps.weight=0   # a comment",
        "`cps submit … --store-secret NAME`",
        "    make cluster-test KUBECONFIG=~/.kube/config",
        "    .venv/bin/cps run --help",
        "`cps compare RUN RUN`",
        "`cps runs`",
        "- A paragraph of a list:\n\n    Run `cps down`, then something else.",
    ],
)
def test_a_right_command_passes(text: str) -> None:
    [(_, command)] = command_lines(text)
    assert problem(command) == ""


@pytest.mark.parametrize("text", ["    cpsx run", "the cps command", "```text\ncps rnu\n```"])
def test_what_is_no_command_is_left_out(text: str) -> None:
    assert list(command_lines(text)) == []
