"""`cps compare`, `cps weights`, `cps predict`, `cps label-next`: use the results of runs."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import click

from components.api.naming import weights_file
from components.disk import check_writable, writing
from components.errors import UserError
from components.reading import expanded
from components.units import parse_duration
from pipeline.cli.names import complete_run, complete_run_or_file, run_argument, run_named, tracking_address
from pipeline.cli.options import LocalPath, complete_file, quiet_option
from pipeline.cli.signals import RESTARTS, RESUMES, on_interrupt
from pipeline.local.environment import open_store


@click.command(short_help="List all runs by mIoU, or compare two runs.")
@click.argument("run", nargs=-1, metavar="[RUN RUN]", shell_complete=complete_run)
@click.option("--dataset", default="", help="List only runs on this dataset.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 5000), help="Maximum number of runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def compare(run: tuple[str, ...], dataset: str, limit: int, as_json: bool, as_csv: bool) -> None:
    """List the runs in MLflow by mIoU, best first, in groups with the same dataset and split.

    The gain is the lead over the best supervised run of the same recipe and split, in points of mIoU. With two runs,
    print the difference between their best checkpoints instead, with its 95 % interval: images are drawn in pairs, so
    that hard images, which affect both, cancel out.

    \b
    Examples:
      cps compare
      cps compare --dataset camvid --json | jq '.[0]'
      cps compare @best 5d2c41
    """
    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other: give one")
    if run:
        _compare_two(run, as_json=as_json, refused={"--dataset": bool(dataset), "--csv": as_csv})
        return
    from components.disk import state_home
    from components.tracking.compare import compare_runs
    from components.tracking.delivery import deliver_spooled
    from pipeline.cli.tables import comparison_csv, print_comparison
    from pipeline.local.environment import tracking_environment
    from pipeline.local.jobs import any_jobs, close_interrupted

    environment = tracking_environment()
    address = environment["MLFLOW_TRACKING_URI"]
    home = state_home()
    if environment.get("AWS_ENDPOINT_URL") and any_jobs(home):
        close_interrupted(home, open_store(), environment)
    deliver_spooled(address, environment)
    rows = compare_runs(address, dataset=dataset, limit=limit)
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows], indent=2))
    elif not rows:
        on = f" on dataset {dataset!r}; `cps compare` lists those of all datasets" if dataset else ""
        click.echo(f"no runs{on}" if on else "no runs yet; start one with `cps run`", err=True)
    elif as_csv:
        click.echo(comparison_csv(rows), nl=False)
    else:
        print_comparison(rows)


def _compare_two(runs: tuple[str, ...], *, as_json: bool, refused: Mapping[str, bool]) -> None:
    if len(runs) != 2:
        raise UserError(f"compare takes no run or two runs, not {len(runs)}: `cps compare` lists all of them")
    for option, value in refused.items():
        if value:
            raise UserError(f"{option} is for the list of runs: leave it out to compare two runs")
    from components.evaluation.comparison.difference import run_difference
    from components.runs.stored import find_run_key
    from pipeline.cli.tables import print_difference

    store = open_store()
    first, second = (find_run_key(store, run_named(store, run)) for run in runs)
    if first == second:
        raise UserError(f"{runs[0]} and {runs[1]} are the same run, {first}: name two")
    found = run_difference(store, first, second)
    if as_json:
        click.echo(found.as_json())
    else:
        print_difference(found)


@click.group()
def weights() -> None:
    """List, download or share trained networks.

    RUN is a run key, an unambiguous part of one, @last, @best or @champion.

    \b
    Examples:
      cps weights list
      cps weights pull scenes-demo-1-8-s0 -o best.safetensors
      cps weights link scenes-demo-1-8-s0 --expires 2h
    """


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_weights(as_json: bool) -> None:
    """List the trained networks in the object store, with size and SHA-256.

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
        click.echo("no weights yet; train some with `cps run`", err=True)


@weights.command()
@run_argument
@click.option("-o", "--output", type=LocalPath(), help="File to write.  [default: RUN.FORMAT]")
@click.option(
    "--format",
    "form",
    default="safetensors",
    show_default=True,
    type=click.Choice(["safetensors", "onnx", "pdparams", "npz"]),
    help="File format: safetensors (as stored), onnx, pdparams (Paddle) or npz (NumPy).",
)
@click.option(
    "--branch",
    type=click.Choice(["left", "right"]),
    help="Network to export, if the best weights are a pair; not for safetensors.",
)
@on_interrupt(RESTARTS)
def pull(run: str, output: Path | None, form: str, branch: str | None) -> None:
    """Download a run's best weights and verify their SHA-256. Prints the path, size and SHA-256 of the file.

    The file is written completely or not at all. The metadata of an ONNX file contains everything needed to use it with
    onnxruntime alone: class names, palette, mean, std, crop and stride. Its input has the window size that the weights
    were scored with. A .pdparams file uses paddleseg's parameter names if paddleseg has the network.

    \b
    Examples:
      cps weights pull scenes-demo-1-8-s0 -o best.safetensors
      cps weights pull scenes-demo-1-8-s0 --format onnx -o best.onnx
      cps weights pull scenes-demo-1-8-s0 --format pdparams --branch left
    """
    from components.runs.stored import find_weights, pull_converted

    if form == "safetensors" and branch:
        raise UserError(
            "--branch needs --format onnx, pdparams or npz: safetensors downloads the stored file unchanged"
        )
    store = open_store()
    found = find_weights(store, run_named(store, run))
    target = output or Path(f"{found.run_key}.{form}")
    if target.is_dir():
        target = target / f"{found.run_key}.{form}"
    if form == "safetensors":
        with writing(target, "--output", found.size):
            store.get_file(found.key, target, sha256=found.sha256 or None, durable=True)
        click.echo(f"{target}  {found.size / 1e6:.1f} MB  sha256 {found.sha256}")
    else:
        with writing(target, "--output"):
            pull_converted(store, found, form, target, branch=branch or "")
        click.echo(f"{target}  {target.stat().st_size / 1e6:.1f} MB  from sha256 {found.sha256}")


@weights.command()
@run_argument
@click.option("--expires", default="1h", show_default=True, help="Lifetime of the link, such as 30m or 2h; at most 7d.")
def link(run: str, expires: str) -> None:
    """Print a URL from which anyone can download a run's best weights until it expires.

    \b
    Example:
      curl -o best.safetensors "$(cps weights link scenes-demo-1-8-s0 --expires 30m)"
    """
    from components.runs.stored import find_weights, presigned_link

    duration = parse_expiry(expires)
    store = open_store()
    click.echo(presigned_link(store, find_weights(store, run_named(store, run)), duration))


@click.command(short_help="Segment photographs with a trained network.")
@click.argument("images", nargs=-1, required=True, shell_complete=complete_file)
@click.option(
    "--weights",
    "source",
    required=True,
    metavar="FILE|RUN",
    shell_complete=complete_run_or_file,
    help="Weights file, or a run whose best weights to use.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=LocalPath(file_okay=False),
    help="Folder for the masks, overlays and gallery.",
)
@click.option("--sha256", default="", help="Expected SHA-256 of the weights; fail if it differs.")
@click.option(
    "--crop",
    nargs=2,
    type=click.IntRange(1),
    metavar="WIDTH HEIGHT",
    help="Size of the sliding window, in pixels.  [default: as the weights were scored]",
)
@click.option(
    "--stride",
    nargs=2,
    type=click.IntRange(1),
    metavar="WIDTH HEIGHT",
    help="Step of the sliding window, in pixels.  [default: the overlap that the weights were scored with]",
)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    default=(1.0,),
    type=click.FloatRange(0, 8, min_open=True),
    help="Resize factor of the images. Repeatable: the probabilities of all scales are averaged.  [default: 1]",
)
@click.option("--flip", is_flag=True, help="Average with the prediction for the mirrored image.")
@click.option("--triptychs", is_flag=True, help="Also write photograph, prediction and ground truth side by side.")
@click.option(
    "--confidence",
    is_flag=True,
    help="Also write the probability of the predicted class as a PNG, 0 to 1 scaled to 0 to 255.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="Inference engine: auto (a GPU, or the fastest exact one), paddle, onnxruntime, onnxruntime-cuda, openvino or "
    "openvino-bf16.",
)
@click.option(
    "--bf16", is_flag=True, help="Use bfloat16 if the processor supports it. Several percent of the pixels change."
)
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
    """Segment photographs with a trained network. With a weights file, this needs no pipeline and no services.

    IMAGES are files, folders, quoted glob patterns, lists (.txt with `image` or `image label` on each line) or s3://
    prefixes. Hidden files in folders are skipped, and so are images that OUTPUT already contains from the same weights.
    OUTPUT may be inside or above the folder of the images; files that are not earlier results are never overwritten.
    Prints the path of the gallery. Exit code 1 if some images could not be read; the others are done.

    \b
    Examples:
      cps predict photos/ --weights best.safetensors -o masks/
      cps predict street.jpg 'night/*.png' --weights scenes-demo-1-8-s0 -o out/
      cps predict s3://photos/2024/ --weights best.safetensors -o out/ --crop 1024 512 --stride 680 340
      cps predict val.txt --weights best.safetensors -o out/ --triptychs --confidence --bf16
    """
    from components.prediction.photographs import check_exist
    from components.prediction.predict import predict_files

    paths = [expanded(text) for text in images]
    check_exist(paths)  # before any weights are downloaded
    check_writable(output, "--output")
    file = weights_file(source, open_store, tracking_address)
    with writing(output, "--output"):
        refused = predict_files(
            paths,
            file,
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
    """Return (width, height), the order of the options, as (height, width), the order of the code."""
    return None if size is None else (size[1], size[0])


def parse_expiry(text: str) -> timedelta:
    """Return a duration such as `30m`; S3 allows at most `7d`. Raises UserError."""
    duration = parse_duration(text)
    if duration is None or not timedelta(0) < duration <= timedelta(days=7):
        raise UserError(f"--expires {text!r} must be a time such as 30m, 2h or 7d, at most 7 days")
    return duration


@click.command("label-next", short_help="Suggest which images to label next.")
@run_argument
@click.option(
    "-n", "--count", default=50, show_default=True, type=click.IntRange(1), help="Number of images to suggest."
)
@click.option(
    "-o",
    "--output",
    default="label-next",
    show_default=True,
    type=LocalPath(file_okay=False),
    help="Folder for the suggestions.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@quiet_option
@on_interrupt(RESUMES)
def label_next(run: str, count: int, output: Path, as_json: bool) -> None:
    """Suggest which of a run's unlabelled images to label next, most useful first.

    RUN is a run key, an unambiguous part of one, @last, @best or @champion. Images on which its two networks disagree
    and are uncertain rank first; images similar to a labelled or already suggested one rank lower. Measurements are
    cached, so repeating the command is fast.

    Writes label-next.csv, and label-next.html with disagreement maps. If the dataset has labels for the suggested
    images that the run did not use, also writes labeled.txt, a list for the next run. Prints the paths.

    \b
    Examples:
      cps label-next scenes-demo-1-8-s0
      cps label-next photos-1-16-s1 -n 23 -o suggested --json | jq -r '.suggestions[].image'
    """
    from components.labeling.label_next import label_next as suggest
    from components.runs.stored import find_run_key
    from pipeline.local.environment import open_store

    check_writable(output, "--output")
    store = open_store()
    with writing(output, "--output"):
        found = suggest(store, find_run_key(store, run_named(store, run)), count, output)
    if as_json:
        click.echo(found.as_json())
        return
    for path in found.files.values():
        click.echo(str(path))
