"""`cps compare`, `cps weights`, `cps predict`, `cps label-next`: what comes out of the runs."""

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.errors import UserError
from components.units import parse_duration
from pipeline.cli.options import complete_file, quiet_option
from pipeline.cli.signals import RESTARTS, RESUMES, on_interrupt
from pipeline.local.environment import open_store

if TYPE_CHECKING:
    from components.runs.stored import StoredWeights


@click.command()
@click.option("--dataset", default="", help="Only runs on this dataset.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="At most so many runs.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def compare(dataset: str, limit: int, as_json: bool) -> None:
    """mIoU of all runs, the best first, from MLflow.

    \b
    Examples:
      cps compare
      cps compare --dataset camvid --json | jq '.[0]'
    """
    from components.tracking.compare import compare_runs
    from components.tracking.delivery import deliver_spooled
    from pipeline.cli.tables import print_comparison
    from pipeline.local.environment import tracking_environment

    environment = tracking_environment()
    address = environment["MLFLOW_TRACKING_URI"]
    deliver_spooled(address, environment)
    rows = compare_runs(address, dataset=dataset, limit=limit)
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows], indent=2))
    elif rows:
        print_comparison(rows)
    else:
        click.echo("no runs yet: `cps run` makes one", err=True)


@click.group()
def weights() -> None:
    """The trained networks in the object store. RUN is a run key, or enough of it to be the only one.

    \b
    Examples:
      cps weights list
      cps weights pull scenes-demo-1-8-s0 -o best.safetensors
      cps weights link scenes-demo-1-8-s0 --expires 2h
    """


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_weights(as_json: bool) -> None:
    """Every trained network, with its size and sha256.

    \b
    Example:
      cps weights list
    """
    from components.runs.stored import stored_weights
    from pipeline.cli.tables import print_weights

    found = stored_weights(open_store())
    if as_json:
        click.echo(json.dumps([entry.as_dict() for entry in found], indent=2))
    elif found:
        print_weights(found)
    else:
        click.echo("no weights yet: `cps run` makes some", err=True)


@weights.command()
@click.argument("run")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: RUN.FORMAT]")
@click.option(
    "--format",
    "form",
    default="safetensors",
    show_default=True,
    type=click.Choice(["safetensors", "onnx", "pdparams", "npz"]),
    help="As stored, or made for onnxruntime, for Paddle, or for numpy.",
)
@click.option("--branch", type=click.Choice(["left", "right"]), help="One network, where the average of both won.")
@on_interrupt(RESTARTS)
def pull(run: str, output: Path | None, form: str, branch: str | None) -> None:
    """Download a run's best weights, verified by sha256; the file appears whole or not at all.

    An ONNX file says in its metadata what is needed to use it with onnxruntime alone: class names, palette, mean, std,
    crop, stride, and how they go together. Its windows have the size that the weights were scored with. A .pdparams
    file of a network that paddleseg has bears paddleseg's names.

    \b
    Examples:
      cps weights pull scenes-demo-1-8-s0 -o best.safetensors
      cps weights pull scenes-demo-1-8-s0 --format onnx -o best.onnx
      cps weights pull scenes-demo-1-8-s0 --format pdparams --branch left
    """
    from components.runs.stored import find_weights, pull_converted

    if form == "safetensors" and branch:
        raise UserError("--branch goes with --format onnx, pdparams or npz: the stored file is taken as it is")
    store = open_store()
    found = find_weights(store, run)
    target = output or Path(f"{found.run_key}.{form}")
    if target.is_dir():
        target = target / f"{found.run_key}.{form}"
    if form == "safetensors":
        store.get_file(found.key, target, sha256=found.sha256 or None, durable=True)
        click.echo(f"{target}  {found.size / 1e6:.1f} MB  sha256 {found.sha256}")
    else:
        pull_converted(store, found, form, target, branch=branch or "")
        click.echo(f"{target}  {target.stat().st_size / 1e6:.1f} MB  from sha256 {found.sha256}")


@weights.command()
@click.argument("run")
@click.option("--expires", default="1h", show_default=True, help="How long it works: 30m, 2h, 7d at most.")
def link(run: str, expires: str) -> None:
    """An address that anyone can download a run's best weights from, until it expires.

    \b
    Example:
      curl -o best.safetensors "$(cps weights link scenes-demo-1-8-s0 --expires 30m)"
    """
    from components.runs.stored import find_weights, presigned_link

    duration = parse_expiry(expires)
    store = open_store()
    click.echo(presigned_link(store, find_weights(store, run), duration))


@click.command(short_help="Segment photographs.")
@click.argument("images", nargs=-1, required=True, shell_complete=complete_file)
@click.option(
    "--weights",
    "source",
    required=True,
    metavar="FILE|RUN",
    shell_complete=complete_file,
    help="A weights file, or a run whose best is taken.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for masks, overlays and the gallery.",
)
@click.option("--sha256", default="", help="Refuse the weights unless this is their digest.")
@click.option(
    "--crop",
    nargs=2,
    type=click.IntRange(1),
    metavar="WIDTH HEIGHT",
    help="Sliding window, in pixels.  [default: as the weights were scored]",
)
@click.option("--stride", nargs=2, type=click.IntRange(1), metavar="WIDTH HEIGHT", help="Its steps, in pixels.")
@click.option(
    "--scale",
    "scales",
    multiple=True,
    default=(1.0,),
    type=click.FloatRange(0, 8, min_open=True),
    help="Resize the images by this factor; given several times, the probabilities are averaged.  [default: 1]",
)
@click.option("--flip", is_flag=True, help="Average with the mirrored image, too.")
@click.option("--triptychs", is_flag=True, help="Photograph, prediction and truth side by side, too.")
@click.option("--confidence", is_flag=True, help="The predicted class's probability too, 0 to 1 as 0 to 255 in a PNG.")
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="What runs the network: auto (the fastest exact one), paddle, onnxruntime, openvino, openvino-bf16.",
)
@click.option("--bf16", is_flag=True, help="Allow bfloat16, where the processor has it: faster, and not exact.")
@quiet_option
@on_interrupt(RESUMES)
def predict(
    images: tuple[str, ...],
    source: str,
    output: Path,
    sha256: str,
    crop: tuple[int, int] | None,
    stride: tuple[int, int] | None,
    scales: tuple[float, ...],
    flip: bool,
    triptychs: bool,
    confidence: bool,
    engine: str,
    bf16: bool,
) -> None:
    """Segment photographs; no pipeline and no services are needed with a weights file.

    IMAGES are files, folders, quoted patterns, lists (.txt, a line is `image` or `image label`) or s3:// prefixes.
    What OUTPUT has already from the same weights is not made again.

    \b
    Examples:
      cps predict photos/ --weights best.safetensors -o masks/
      cps predict street.jpg 'night/*.png' --weights scenes-demo-1-8-s0 -o out/
      cps predict s3://photos/2024/ --weights best.safetensors -o out/ --crop 1024 512 --stride 680 340
      cps predict val.txt --weights best.safetensors -o out/ --triptychs --confidence --bf16
    """
    from components.prediction.photographs import check_exist
    from components.prediction.predict import predict_files

    check_exist(images)  # before weights are fetched for them
    refused = predict_files(
        list(images),
        _weights_file(source),
        output,
        crop=_height_first(crop),
        stride=_height_first(stride),
        scales=scales,
        flip=flip,
        sha256=sha256,
        triptychs=triptychs,
        confidence=confidence,
        engine=engine,
        bf16=bf16,
        open_store=open_store,
    )
    click.echo(output / "gallery.html")
    if refused:
        raise click.exceptions.Exit(1)


def _height_first(size: tuple[int, int] | None) -> tuple[int, int] | None:
    """People say width and height, the code height and width."""
    return None if size is None else (size[1], size[0])


def parse_expiry(text: str) -> timedelta:
    """Return a time as `30m` or `7d`, the most that S3 signs for. Raises UserError."""
    duration = parse_duration(text)
    if duration is None or not timedelta(0) < duration <= timedelta(days=7):
        raise UserError(f"--expires {text!r} must be a time such as 30m, 2h or 7d, and 7 days at most")
    return duration


def _weights_file(source: str) -> Path:
    """The file itself, or a run's best weights, downloaded once and kept below the state folder."""
    path = Path(source)
    if path.is_file():
        return path
    from components.runs.stored import find_weights
    from pipeline.local.environment import state_home

    if path.suffix or "/" in source:
        raise UserError(f"weights file {source!r} does not exist")
    store = open_store()
    found: StoredWeights = find_weights(store, source)
    return store.get_file(found.key, state_home() / "runs" / found.run_key / "best.safetensors", found.sha256 or None)


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
@on_interrupt(RESUMES)
def label_next(run: str, count: int, output: Path, as_json: bool) -> None:
    """Suggest which of a run's unlabelled images to label next, most useful first.

    Those on which its two networks disagree and are unsure come first, and images that look like one that is labelled
    or already suggested come late. OUTPUT gets label-next.csv, label-next.html with maps of the disagreement and,
    where the dataset has labels for them that the run did not use, labeled.txt: a list for the next run. RUN is a run
    key, or enough of it to be the only one. What is measured is kept, so the same again is quick.

    \b
    Examples:
      cps label-next scenes-demo-1-8-s0
      cps label-next camvid-mobilenetv2-1-16-s1 -n 23 -o suggested --json | jq -r '.suggestions[].image'
    """
    from components.labeling.label_next import label_next as suggest
    from components.runs.stored import find_run
    from pipeline.local.environment import open_store

    store = open_store()
    found = suggest(store, find_run(store, run).run_key, count, output)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
        return
    for path in found.files.values():
        click.echo(str(path))
