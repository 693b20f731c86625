"""The labelled share of the training images, written a/b."""

import re
from fractions import Fraction

from components.errors import UserError

_RATIO = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


def parse_ratio(text: str) -> Fraction:
    """Parse a ratio such as `"1/8"` into an exact fraction in (0, 1].

    Raises:
        UserError: the text is not a/b with integers 0 < a <= b.
    """
    match = _RATIO.fullmatch(text.strip())
    if match:
        numerator, denominator = int(match[1]), int(match[2])
        if 0 < numerator <= denominator:
            return Fraction(numerator, denominator)
    raise UserError(f"labelled ratio {text!r} is not a fraction a/b with 0 < a <= b: write, for example, 1/8")


def ratio_text(ratio: Fraction) -> str:
    """Return a fraction as text, reduced: `"1/8"`, and `"1/1"` for 1."""
    return f"{ratio.numerator}/{ratio.denominator}"


def labels_text(ratio: str) -> str:
    """Return, for example, "1/8 of the labels" or "all labels"."""
    return "all labels" if parse_ratio(ratio) == 1 else f"{ratio} of the labels"
