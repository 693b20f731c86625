"""`cps label-next`: which unlabelled images to label for the next run."""

import json
from pathlib import Path

import click

from pipeline.cli_manners import GOES_ON, quiet_option, when_stopped


@click.command("label-next", short_help="Which images to label for the next run.")
@click.argument("run")
@click.option("-n", "--count", default=50, show_default=True, type=click.IntRange(1), help="Images to suggest.")
@click.option(
    "-o",
    "--output",
    default="label-next",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the result.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@quiet_option
@when_stopped(GOES_ON)
def label_next(run: str, count: int, output: Path, as_json: bool) -> None:
    """Suggest which of a run's unlabelled images to label next, most useful first.

    Those on which its two networks disagree and are unsure come first, and images that look like one that is labelled
    or already suggested come late. OUTPUT gets label-next.csv, label-next.html with maps of the disagreement and,
    where the dataset has labels for them that the run did not use, labeled.txt: a list for the next run. RUN is a run
    key, or enough of it to be the only one. What is measured is kept, so the same again is quick.

    \b
    Examples:
      cps label-next demo-1-8-s0
      cps label-next camvid-mobilenetv2-1-16-s1 -n 23 -o suggested --json | jq -r '.suggestions[].image'
    """
    from components.labeling.step import label_next as suggest
    from pipeline.cli_results import open_store
    from pipeline.retention import find_run

    store = open_store()
    found = suggest(store, find_run(store, run).run_key, count, output)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
        return
    for path in found.files.values():
        click.echo(str(path))
