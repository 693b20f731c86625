"""Draw the layers of packages: python -m tests.docs.packages_picture > docs/images/packages.svg"""

from collections.abc import Iterator

from tests.test_architecture import LAYERS

_WIDTH, _MARGIN, _GAP = 860, 14, 8
_HEIGHT, _BETWEEN = 36, 18
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
_HEAD = """<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="#64748b"/></marker></defs>"""
_COLORS = {"pipeline": ("#fef9c3", "#ca8a04")}
_OTHERS = ("#eef2ff", "#6366f1")


def picture() -> str:
    """Return the picture as SVG: a row for each layer, the highest first."""
    height = 2 * _MARGIN + len(LAYERS) * (_HEIGHT + _BETWEEN) - _BETWEEN
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    label = "The layers of packages: each imports only itself and the layers below"
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}" font-family="{_FONT}">'
    paper = f'<rect width="{_WIDTH}" height="{height}" rx="10" fill="#ffffff"/>'
    return "\n".join([start, _HEAD, paper, *_rows(), "</svg>", ""])


def _rows() -> Iterator[str]:
    middle = _WIDTH / 2
    for number, parts in enumerate(LAYERS):
        top = _MARGIN + number * (_HEIGHT + _BETWEEN)
        if number:
            yield (
                f'<path d="M{middle:g},{top - _BETWEEN + 1} V{top - 2}" stroke="#64748b" stroke-width="1.6" '
                'marker-end="url(#head)"/>'
            )
        width = (_WIDTH - 2 * _MARGIN - _GAP * (len(parts) - 1)) / len(parts)
        for place, name in enumerate(sorted(parts)):
            left = _MARGIN + place * (width + _GAP)
            fill, stroke = _COLORS.get(name, _OTHERS)
            yield (
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_HEIGHT}" rx="8" fill="{fill}" '
                f'stroke="{stroke}" stroke-width="1.5"/>'
                f'<text x="{left + width / 2:.1f}" y="{top + _HEIGHT / 2 + 5:g}" text-anchor="middle" font-size="13" '
                f'font-weight="600" fill="#1e1b4b">{name}</text>'
            )


if __name__ == "__main__":
    print(picture(), end="")
