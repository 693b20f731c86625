"""HEIC photographs, as phones take them. Pillow reads them with pillow-heif, which the extra `heic` installs."""

import io
from functools import cache
from importlib.util import find_spec

from PIL import Image, UnidentifiedImageError

from components.extras import install_command, not_installed

SUFFIXES = (".heic", ".heif")
CONVERT = "convert the photographs to JPEG, for example with `heif-convert`"
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


@cache
def reads_heic() -> bool:
    """Return whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def install() -> str:
    """Return the command that makes HEIC photographs readable, as part of a sentence."""
    return f"install pillow-heif: {install_command('heic')}"


def open_image(data: bytes) -> Image.Image:
    """Open the content of an image file, which may be HEIC, with Pillow.

    Raises:
        UserError: it is HEIC, and pillow-heif is not installed.
        OSError: it is no image (UnidentifiedImageError), or a HEIC file that cannot be decoded.
    """
    if data[4:8] != b"ftyp" or data[8:12] not in _BRANDS:
        return Image.open(io.BytesIO(data))
    _register()
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except Exception as error:  # of libheif, for broken bytes
        why = "no picture in it" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise OSError(f"HEIC file that cannot be decoded ({why}): {CONVERT}") from None
    return picture


@cache
def _register() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        raise not_installed("pillow-heif, which reads HEIC photographs,", "heic") from None
    register_heif_opener(thumbnails=False)
