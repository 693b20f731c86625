"""Render a check as one self-contained HTML page with thumbnails of the faulty files."""

from pathlib import Path

from components.dataset.check.cards import draw_finding
from components.dataset.check.findings import CheckReport
from components.dataset.check.perceptual import BITS, MAX_DISTANCE
from components.dataset.layouts import account_lines, pools_text
from components.pages.render import render

TEMPLATE = Path(__file__).with_name("report.html.j2")
SHOWN = 6
"""Number of items per finding that are shown with thumbnails."""
LISTED = 200
"""Number of further items that are listed as text; only the JSON report has all."""

HEADLINES = {
    "fatal": ("Fatal", "fix these problems before training"),
    "warning": ("Warning", "training is possible, but check these points"),
    "fine": ("Fine", "no problems found"),
}


def render_check(report: CheckReport) -> str:
    """Return the page as HTML. Reads the files again that it shows as thumbnails."""
    folder = Path(report.folder)
    findings = [
        {
            "finding": finding,
            "cards": draw_finding(finding, folder, report.classes, SHOWN),
            "rest": [item.text for item in finding.items[SHOWN : SHOWN + LISTED]],
            "left_out": max(0, len(finding.items) - SHOWN - LISTED),
        }
        for finding in report.findings
    ]
    found = {finding.title for finding in report.findings}
    pixels = {part: sum(getattr(row, f"{part}_pixels") for row in report.balance) for part in ("train", "val")}
    return render(
        TEMPLATE,
        report=report,
        headline=HEADLINES[report.verdict],
        findings=findings,
        passed=[title for title in report.checks if title not in found],
        pixels=pixels,
        largest=max((row.train_pixels for row in report.balance), default=0) or 1,
        balance=sorted(report.balance, key=lambda row: -row.train_pixels),
        colors={row.name: row.color for row in report.balance},
        facts=_facts(report),
    )


def _facts(report: CheckReport) -> list[tuple[str, str]]:
    per_second = sum(report.sizes.values()) / max(report.seconds, 1e-9)
    sizes = [f"{size} ({number:,})" for size, number in report.sizes.items()]
    more = [f"{len(sizes) - 8} more sizes"] if len(sizes) > 8 else []
    return [
        ("source", report.source),
        ("layout", "; ".join((report.layout, *report.notes))),
        ("use of files", "; ".join(account_lines(report.account))),
        *([("not checked", f"additional unlabelled pools: {pools_text(report.pools)}")] if report.pools else []),
        ("image sizes", ", ".join(sizes[:8] + more) or "none could be read"),
        ("checked files", f"{report.files:,}, {report.bytes / 1e6:,.1f} MB"),
        ("void id", f"{report.ignore_index}; {100 * report.void_share:.1f} % of the training label pixels"),
        (
            "near duplicates",
            f"at most {MAX_DISTANCE} of the {BITS} bits of a perceptual hash (discrete cosine transform) differ",
        ),
        ("splits", f"seed {report.seed}, or the dataset's own lists"),
        ("time", f"{report.seconds:.1f} s, {per_second:,.0f} images per second, with their labels"),
    ]
