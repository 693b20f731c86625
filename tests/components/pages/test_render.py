from pathlib import Path

import pytest
from jinja2 import UndefinedError

from components.pages.render import render


def rendered(folder: Path, text: str, **values: object) -> str:
    template = folder / "page.html.j2"
    template.write_text(text)
    return render(template, **values)


@pytest.mark.parametrize(
    ("expression", "value", "expected"),
    [
        ("value | css_color", (128, 0, 7), "#800007"),
        ("value | percent", 0.5634, "56.3\u202f%"),
        ("value | percent(0)", 1.0, "100\u202f%"),
        ("value | percent", None, "–"),
        ("value | percent", float("nan"), "–"),
        ("value | points", -0.0123, "−1.2"),
        ("value | points", 0.0123, "+1.2"),
        ("value | count", 12345, "12,345"),
        ("value | code", "raise --epochs", 'raise <code class="option">--epochs</code>'),
        ("value | code", "look with `cps dataset check --json`", "look with <code>cps dataset check --json</code>"),
        ("value | code", "a--b is < <i>", "a--b is &lt; &lt;i&gt;"),
    ],
)
def test_filters_write_figures_for_people(tmp_path: Path, expression: str, value: object, expected: str) -> None:
    assert rendered(tmp_path, f"{{{{ {expression} }}}}", value=value) == expected


def test_values_are_escaped_and_none_may_be_missing(tmp_path: Path) -> None:
    assert rendered(tmp_path, "<b>{{ name }}</b>", name="<i> & co") == "<b>&lt;i&gt; &amp; co</b>"
    with pytest.raises(UndefinedError):
        rendered(tmp_path, "{{ name }}")


def test_pages_share_their_style(tmp_path: Path) -> None:
    page = rendered(tmp_path, '{% include "page.css" %}{% include "charts.css" %}')
    assert "--paper" in page
    assert ".chart" in page
