"""The labelled share of the training images, written a/b; 0.125 and 12.5% are read too."""

import re
from fractions import Fraction

from components.errors import UserError

_FRACTION = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_DECIMAL = re.compile(r"([0-9]{0,3}\.?[0-9]{0,9})(\s?%)?")


def parse_ratio(text: str) -> Fraction:
    """Parse a ratio such as `"1/8"`, `"0.125"` or `"12.5%"` into an exact fraction in (0, 1].

    Raises:
        UserError: the text is no such number, or out of range.
    """
    found = _number(text.strip())
    if found is None or not 0 < found <= 1:
        raise UserError(f"labelled ratio {text!r} is not a fraction above 0 and up to 1: write 1/8, 0.125 or 12.5%")
    return found


def _number(text: str) -> Fraction | None:
    if match := _FRACTION.fullmatch(text):
        return Fraction(int(match[1]), int(match[2])) if int(match[2]) else None
    match = _DECIMAL.fullmatch(text)
    if not match or not any(character.isdigit() for character in match[1]):
        return None
    return Fraction(match[1]) / (100 if match[2] else 1)


def ratio_text(ratio: Fraction) -> str:
    """Return a fraction as text, reduced: `"1/8"`, and `"1/1"` for 1."""
    return f"{ratio.numerator}/{ratio.denominator}"


def labels_text(ratio: str) -> str:
    """Return, for example, "1/8 of the labels" or "all labels"."""
    return "all labels" if parse_ratio(ratio) == 1 else f"{ratio} of the labels"
