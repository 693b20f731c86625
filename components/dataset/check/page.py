"""A check as one self-contained page, with pictures of what is wrong."""

from pathlib import Path

from components.dataset.check.cards import draw_finding
from components.dataset.check.findings import CheckReport
from components.dataset.layouts import account_lines, pools_text
from components.pages.render import render

TEMPLATE = Path(__file__).with_name("report.html.j2")
SHOWN = 6
"""Items of a finding that are shown with their pictures."""
LISTED = 200
"""Items of a finding that are named at all; the JSON has all."""

HEADLINES = {
    "fatal": ("Fatal", "this dataset cannot be trained on as it is"),
    "warning": ("Warning", "it can be trained on, and one should know this"),
    "fine": ("Fine", "nothing is wrong with it"),
}


def render_check(report: CheckReport) -> str:
    """HTML; reads the few files again whose pictures are shown."""
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
        clean=[title for title in report.checks if title not in found],
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
        ("files", "; ".join(account_lines(report.account))),
        *([("not looked at", f"further unlabelled pools: {pools_text(report.pools)}")] if report.pools else []),
        ("image sizes", ", ".join(sizes[:8] + more) or "none could be read"),
        ("files", f"{report.files:,}, {report.bytes / 1e6:,.1f} MB"),
        ("void id", f"{report.ignore_index}; {100 * report.void_share:.1f} % of the training labels' pixels"),
        ("near duplicates", "perceptual hash of 256 bits (discrete cosine transform), at most 32 of which differ"),
        ("splits", f"seed {report.seed}, or the dataset's own lists"),
        ("time", f"{report.seconds:.1f} s, {per_second:,.0f} images a second with their labels"),
    ]
