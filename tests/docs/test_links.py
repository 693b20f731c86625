"""The documentation's links, anchors and images, and the README's length."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.project_files import REPOSITORY, project_files

README = REPOSITORY / "README.md"
README_MAX_LINES = 160
README_MAX_WORDS = 1500
IMAGE_MAX_BYTES = 300_000

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.S)
_LINK = re.compile(r"""(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^()\s>]+)>?(?:\s+"[^"]*")?\s*\)""")
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)


def _prose(text: str) -> str:
    """Remove fenced code and blank out code spans, so that only rendered text is searched."""
    kept: list[str] = []
    fence = ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[1]
        elif match and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not fence:
            kept.append(line)
    return "\n".join(kept)


def _links(text: str) -> list[tuple[bool, str]]:
    """Return (is an image, target) for every inline link; links inside code do not count."""
    without_code = _CODE_SPAN.sub("code", _prose(text))
    found: list[tuple[bool, str]] = []
    for match in _LINK.finditer(without_code):
        found.append((bool(match[1]), match[3]))
        found += _links(match[2])  # an image that is itself a link
    return found


def _anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    seen: Counter[str] = Counter()
    anchors = set()
    for line in _prose(text).splitlines():
        match = re.match(r"#{1,6} +(.*?) *#*$", line)
        if match is None:
            continue
        title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", match[1])
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


def _broken(page: Path, text: str) -> list[str]:
    """Return one line for each relative link of a page that leads to no file, or to no heading of it."""
    broken = []
    for _, target in _links(text):
        if _EXTERNAL.match(target):
            continue
        name, _, anchor = unquote(target).partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.is_relative_to(REPOSITORY):
            broken.append(f"{target}: outside the repository")
        elif not path.exists():
            broken.append(f"{target}: no such file")
        elif anchor and (path.suffix != ".md" or anchor not in _anchors(text if path == page else path.read_text())):
            broken.append(f"{target}: no such heading")
    return broken


@pytest.mark.parametrize("page", project_files("*.md"), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_resolve(page: Path) -> None:
    assert _broken(page, page.read_text()) == []


def test_every_page_in_docs_is_in_its_index() -> None:
    docs = REPOSITORY / "docs"
    linked = {(docs / target).resolve() for _, target in _links((docs / "README.md").read_text())}
    pages = {path for path in project_files("*.md") if path.is_relative_to(docs) and path.name != "README.md"}
    assert pages
    assert pages <= linked, f"add to docs/README.md: {sorted(path.name for path in pages - linked)}"


def test_every_page_in_docs_is_on_the_website() -> None:
    listed = set(re.findall(r"^ +- .*?([\w/-]+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.M))
    pages = {str(path.relative_to(REPOSITORY)) for path in project_files("docs/**.md")}
    assert pages <= listed, f"add to nav in mkdocs.yml: {sorted(pages - listed)}"
    assert all((REPOSITORY / page).is_file() for page in listed)


def test_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= README_MAX_LINES
    assert len(text.split()) <= README_MAX_WORDS


def test_readme_shows_images_that_exist_and_load_quickly() -> None:
    images = [target for is_image, target in _links(README.read_text()) if is_image]
    assert images, "the README shows what a result looks like"
    for target in images:
        assert not _EXTERNAL.match(target), f"{target}: images of the README belong in docs/images"
        assert 0 < (REPOSITORY / target).stat().st_size <= IMAGE_MAX_BYTES, target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](LICENSE), [b](#two-words), ![c](<LICENSE>), [![d](LICENSE)](LICENSE)\n\n## Two `words`!\n", []),
        ("[a](missing.md)", ["missing.md: no such file"]),
        ("[![a](missing.png)](LICENSE)", ["missing.png: no such file"]),
        ("[a](#missing)\n\n```\n## Missing\n```\n", ["#missing: no such heading"]),
        ("[a](CHANGELOG.md#missing)", ["CHANGELOG.md#missing: no such heading"]),
        ("[a](../elsewhere.md)", ["../elsewhere.md: outside the repository"]),
        ("`[a](missing.md)` and [b](https://example.org/x)\n\n~~~\n[c](missing.md)\n~~~\n", []),
        ("## Same\n## Same\n[a](#same) [b](#same-1) [c](#same-2)", ["#same-2: no such heading"]),
    ],
)
def test_the_check_finds_broken_links(text: str, expected: list[str]) -> None:
    assert _broken(README, text) == expected
