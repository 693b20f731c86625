"""Render pages as self-contained HTML files that need no network and fit a phone."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

HERE = Path(__file__).parent


def render(template: Path, **values: Any) -> str:
    """Fill a template and return the page. Values are escaped. Templates can include page.css and charts.css."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in (percent, points, count, css_color, code)}
    page = environment.get_template(template.name).render(**values)
    return page.encode(errors="replace").decode()  # a file name that is not UTF-8 must not prevent the page


def css_color(color: tuple[int, int, int]) -> str:
    """Return RGB as CSS writes it: (128, 192, 64) as "#80c040"."""
    red, green, blue = color
    return f"#{red:02x}{green:02x}{blue:02x}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage: 0.5634 as "56.3 %" with a narrow no-break space. None and NaN become a dash."""
    return "–" if share is None or share != share else f"{100 * share:.{digits}f}\u202f%"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign: 0.0123 as "+1.2"."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def code(text: str) -> Markup:
    """Return a sentence with its `commands` and --options set as code; an option is never broken after a hyphen."""
    return Markup(_CODE.sub(_as_code, str(escape(text))))


_CODE = re.compile(r"`([^`]+)`|(?<![\w-])(--[a-z][a-z-]*)")


def _as_code(found: re.Match[str]) -> str:
    return f"<code>{found[1]}</code>" if found[1] else f'<code class="option">{found[2]}</code>'


def count(number: int) -> str:
    """Return 12345 as "12,345"."""
    return f"{number:,}"
