"""Find annotation files in a dataset's folder, and the picture that each annotation belongs to."""

import mmap
import posixpath
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from components.dataset.layouts.annotations.model import Format
from components.dataset.layouts.files import files_below, is_hidden, is_picture, unreadable_folder
from components.dataset.layouts.names import Part, part_of, role_of
from components.errors import UserError

_DEPTH = 5
"""How many folder levels to search, counting the dataset's folder."""
_FOLDERS = frozenset({"json", "jsons", "xml", "coco", "labelme", "cvat", "data", "default"})
"""Folder names in which tools put annotation files or photographs, besides those that name a role or part."""
_HEAD = 1 << 16
"""Bytes at the beginning of a file in which its format usually shows."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def annotation_files(root: Path) -> Iterator[tuple[str, Format]]:
    """Yield the names, relative to `root`, and formats of the annotation files of the dataset in `root`."""
    for name in _candidates(root, PurePosixPath()):
        found = format_of(root / name)
        if found:
            yield str(name), found


def _candidates(root: Path, folder: PurePosixPath) -> Iterator[PurePosixPath]:
    try:
        entries = sorted((root / folder).iterdir())
    except OSError as error:
        raise unreadable_folder(root / folder, error) from None
    entries = [path for path in entries if not is_hidden(path.name)]
    for path in entries:
        if path.suffix.lower() in (".json", ".xml") and path.is_file():
            yield folder / path.name
    if len(folder.parts) + 1 >= _DEPTH:
        return
    for path in entries:
        # Below images/ or labels/, folders have any name.
        if (folder.parts or _holds_data(path.name)) and not is_picture(path.name) and path.is_dir():
            yield from _candidates(root, folder / path.name)


def _holds_data(folder: str) -> bool:
    return role_of(folder) in ("image", "label") or part_of(folder) is not None or folder.lower() in _FOLDERS


def format_of(path: Path) -> Format | None:
    """Return the format of an annotation file by the keys in it; None if it is no such file."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head.startswith(_UTF16):
                content = (head + file.read()).decode("utf-16", "replace").encode()
                return _format(path, content, content)
            if len(head) < _HEAD:
                return _format(path, head, head)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                return _format(path, head, whole)
    except (OSError, ValueError):
        return None


def _format(path: Path, head: bytes, content: bytes | mmap.mmap) -> Format | None:
    def has(*keys: bytes) -> bool:
        return all(content.find(b'"%s"' % key) >= 0 for key in keys)

    if path.suffix.lower() == ".xml":
        return "cvat" if b"<annotations>" in head else None
    if b'"shapes"' in head or not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        # COCO files can be large, and labelme's hold whole photographs; do not search them for nothing.
        return "labelme" if b'"shapes"' in head and has(b"imagePath") else None
    if has(b"images", b"annotations"):
        return "coco"
    return "labelme" if has(b"shapes", b"imagePath") else None


class Pictures:
    """The pictures below a dataset's folder, found by names as annotation tools write them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[PurePosixPath]] = {}
        self._by_stem: dict[str, list[PurePosixPath]] = {}
        for name in files_below(root):
            if is_picture(name):
                path = PurePosixPath(name)
                self._by_name.setdefault(_normal(path.name), []).append(path)
                self._by_stem.setdefault(_normal(path.stem), []).append(path)

    def find(self, name: str, file: str, part: Part | None) -> str | None:
        """Return the picture that an annotation file names, or None.

        A name may have folders, be relative to the annotation file, URL-escaped, a URL, or an absolute path from
        another machine; then the picture whose path has the longest common end is taken, or else the one in the
        same part, or in folders of the same names as those of the annotation file.

        Raises:
            UserError: several pictures match equally well.
        """
        for spelled in _spellings(name):
            found = self._by_name.get(_normal(PurePosixPath(spelled).name), [])
            exact = self._exact(spelled, posixpath.dirname(file)) or self._exact(spelled, "")
            if exact:
                return exact
            if found:
                return self._best(found, PurePosixPath(_normal(spelled)).parts, name, file, part)
        return None

    def beside(self, name: str, file: str) -> str | None:
        """Return the picture at a path relative to an annotation file, or None."""
        found = (self._exact(spelled, posixpath.dirname(file)) for spelled in _spellings(name))
        return next(filter(None, found), None)

    def _exact(self, name: str, base: str) -> str | None:
        wanted = _normal(posixpath.normpath(posixpath.join(base, name)))
        found = self._by_name.get(_normal(PurePosixPath(name).name), [])
        return next((str(path) for path in found if _normal(str(path)) == wanted), None)

    def find_stem(self, file: str, part: Part | None, *, beside: bool) -> str | None:
        """Return the picture that has the stem of an annotation file, in the same folder if `beside`; or None."""
        path = PurePosixPath(file)
        found = self._by_stem.get(_normal(path.stem), [])
        if beside:
            found = [each for each in found if each.parent == path.parent]
        return self._best(found, (), path.stem, file, part) if found else None

    def _best(self, found: list[PurePosixPath], parts: tuple[str, ...], name: str, file: str, part: Part | None) -> str:
        folders = set(PurePosixPath(file).parent.parts)
        ranks = {
            path: (
                _common_end(path, parts),
                part is not None and part in map(part_of, path.parts[:-1]),
                len(folders & set(path.parent.parts)),
            )
            for path in found
        }
        best = [path for path, rank in ranks.items() if rank == max(ranks.values())]
        if len(best) > 1:
            raise UserError(
                f"{self.root / file}: {name} may be {best[0]} or {best[1]}: "
                "write the folder into its name, or remove one"
            )
        return str(best[0])


def _spellings(name: str) -> Iterator[str]:
    """Yield variants of a name: as written, without URL escapes, the path in a URL's query; all with / for \\."""
    forward = name.replace("\\", "/")
    yield from dict.fromkeys((forward, unquote(forward)))
    address = urlsplit(forward)
    local = parse_qs(address.query).get("d", [""])[0]  # Label Studio: /data/local-files/?d=folder/x.jpg
    if local:
        yield local
    if address.scheme and address.path:
        yield unquote(address.path)


def _common_end(path: PurePosixPath, parts: tuple[str, ...]) -> int:
    """Return how many components at the ends of two paths are equal."""
    length = 0
    for one, other in zip(reversed(_normal(str(path)).split("/")), reversed(parts), strict=False):
        if one != other:
            break
        length += 1
    return length


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS decomposes accented letters
