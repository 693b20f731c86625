"""What a person sees at the end: the run's result, a comparison of runs, the stored weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.storage import keys
from components.storage.client import Store
from components.storage.settings import settings_from_environment
from components.units import percent, seconds_text
from pipeline.local.run import JobOutcome

if TYPE_CHECKING:
    from components.runs.stored import StoredWeights
    from components.tracking.compare import RunRow


def collect_outcome(outcome: JobOutcome, home: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The run's result.json, with copies of its pages below `home` and the addresses to look at."""
    run_key = outcome.run_key
    store = Store(settings_from_environment(environment))
    result: dict[str, Any] = store.get_json(keys.run(run_key, "result.json"))
    folder = home / "runs" / run_key
    predictions = outcome.results.get("predict", {})
    pages = {"report": result["report"]["uri"], "gallery": predictions.get("gallery", "")}
    copies = {}
    for name, uri in pages.items():
        if uri:
            copies[name] = str(store.get_uri(uri, folder / f"{name}.html"))
    return {
        **result,
        "predictions": predictions,
        "files": copies,
        "mlflow": environment.get("MLFLOW_TRACKING_URI", ""),
        "object_store": environment.get("AWS_ENDPOINT_URL", ""),
        "seconds": round(outcome.seconds, 1),
        "log": str(outcome.log),
    }


def print_outcome(collected: Mapping[str, Any]) -> None:
    """The result of a run, on standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    best = collected["best"]
    console.print(
        f"\n[bold]{collected['run_key']}[/bold]: dataset {collected['dataset']['name']}, label ratio "
        f"{collected['ratio']}, recipe {collected['recipe']}, seed {collected['seed']}; "
        f"{seconds_text(collected['seconds'])}"
    )
    test = collected["test"]
    interval = f", 95 % interval {percent(best['mIoU_low'])} to {percent(best['mIoU_high'])}"
    console.print(
        f"best mIoU [bold]{percent(best['mIoU'])}[/bold]{interval if best['mIoU_low'] is not None else ''} "
        f"(epoch {best['epoch']}, network {best['variant']}; "
        f"{len(collected['checkpoints'])} checkpoints on {collected['images']} images), a constant prediction "
        f"{percent(collected['constant_prediction_mIoU'])}\n"
    )
    if test:
        console.print(f"test list: mIoU [bold]{percent(test['mIoU'])}[/bold] on {test['images']} images, scored once\n")
    table = Table("class", box=None, pad_edge=False, header_style="bold")
    table.add_column("IoU", justify="right")
    table.add_column("accuracy", justify="right")
    for row in best["per_class"]:
        table.add_row(row["name"], percent(row["iou"]), percent(row["accuracy"]))
    console.print(table)
    console.print()
    for name, where in _places(collected):
        console.print(f"{name:<14}{where}", markup=False)


def _places(collected: Mapping[str, Any]) -> list[tuple[str, str]]:
    places = [
        ("weights", collected["weights"]["uri"]),
        ("", f"cps weights pull {collected['run_key']}"),
        ("report", collected["report"]["uri"]),
        ("", collected["files"].get("report", "")),
        ("gallery", collected["predictions"].get("gallery", "")),
        ("", collected["files"].get("gallery", "")),
        ("MLflow", collected["mlflow"] or "off"),
        ("object store", collected["object_store"]),
    ]
    return [(name, where) for name, where in places if where]


def print_comparison(rows: Sequence["RunRow"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "best mIoU",
        "recipe",
        "ratio",
        "seed",
        "epoch",
        "network",
        "status",
        "started (UTC)",
        "dataset",
        "run",
    ):
        table.add_column(name, justify="right" if name == "best mIoU" else "left", no_wrap=True, overflow="fold")
    for row in rows:
        started = row.started[:16].replace("T", " ")
        cells = (row.recipe, row.ratio, row.seed, row.epoch, row.variant, row.status, started, row.dataset, row.run_key)
        table.add_row(percent(row.best_miou), *cells)
    _wide_console(Console).print(table)


def print_weights(found: Sequence["StoredWeights"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "MB", "stored (UTC)", "sha256", "uri"):
        table.add_column(name, justify="right" if name == "MB" else "left", no_wrap=True)
    for entry in found:
        stored = entry.modified[:16].replace("T", " ")
        table.add_row(entry.run_key, f"{entry.size / 1e6:.1f}", stored, entry.sha256[:12], entry.uri)
    _wide_console(Console).print(table)


def _wide_console(console: Any) -> Any:
    """Tables keep their lines whole: a pipe or a narrow terminal must not cut a run key."""
    return console(highlight=False, width=max(console().width, 200), soft_wrap=True)
