"""Render a check as one self-contained HTML page with thumbnails of the faulty files."""

from pathlib import Path

from components.dataset.check.cards import draw_finding, draw_sample
from components.dataset.check.findings import CheckReport
from components.dataset.check.perceptual import BITS, MAX_DISTANCE
from components.dataset.layouts import account_lines, pools_text
from components.pages.render import render
from components.pages.shown import Painter
from components.pages.verdict import Level, PageVerdict, listed
from components.units import quantity

TEMPLATE = Path(__file__).with_name("report.html.j2")
SHOWN = 6
"""Number of items per finding that are shown with thumbnails."""
LISTED = 200
"""Number of further items that are listed as text; only the JSON report has all."""

LEGEND = 25
LEVELS: dict[str, Level] = {"fatal": "bad", "warning": "doubtful", "fine": "good"}


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
    painter = Painter(report.classes)
    drawn = [draw_sample(item, folder, painter) for item in report.samples]
    balance = sorted(report.balance, key=lambda row: -row.train_pixels)
    ids = {name: number for number, name in enumerate(painter.names)}
    shares = [getattr(row, f"{part}_pixels") / pixels[part] for part in pixels for row in balance if pixels[part]]
    return render(
        TEMPLATE,
        report=report,
        shown_classes=painter.classes,
        verdict=judge(report),
        samples=[sample for sample in drawn if sample],
        legend=[(ids[row.name], row.name, painter.colors[row.name], "") for row in balance[:LEGEND]],
        files_heading=_files_heading(report),
        findings=findings,
        passed=[title for title in report.checks if title not in found],
        pixels=pixels,
        largest=max(shares, default=0) or 1,
        balance=balance,
        colors=painter.colors,
        facts=_facts(report),
    )


def judge(report: CheckReport) -> PageVerdict:
    """Return the verdict on the dataset, with the worst findings as reasons."""
    worst = [finding for finding in report.findings if finding.level == report.verdict]
    if not worst:
        return PageVerdict("good", "Fine", "no problems found.")
    problems = quantity(len(worst), "problem")
    sentence = {
        "fatal": f"fix {problems} before training.",
        "warning": f"training is possible, but check {quantity(len(worst), 'point')}.",
    }[report.verdict]
    names = [f"{finding.title} ({len(finding.items):,})" for finding in worst]
    word = report.verdict.capitalize()
    return PageVerdict(LEVELS[report.verdict], word, sentence, (f"{listed(names, 6)}.",), (worst[0].advice,))


def _files_heading(report: CheckReport) -> str:
    if report.images["unlabeled"]:
        return f"{report.images['unlabeled']:,} images without a label"
    return "Every training image has a label"


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
