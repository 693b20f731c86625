"""Format sizes, durations and shares for people, and parse the sizes and durations that they type."""

import re
from datetime import timedelta

_PREFIXES = "kmgt"
_DURATIONS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_size(text: str) -> int | None:
    """Return `8GiB`, `8Gi`, `500MB`, `1.5G` or `1000` in bytes, or None for anything else."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt])(i?))?b?", text.strip(), re.IGNORECASE)
    if not match:
        return None
    power = _PREFIXES.index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def parse_duration(text: str) -> timedelta | None:
    """Return `90s`, `30m`, `2h`, `7d` or `1w` as a duration, or None for anything else."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    return timedelta(**{_DURATIONS[match[2]]: int(match[1])}) if match else None


def size_text(count: int) -> str:
    """Format bytes in powers of 1000, such as 2.5 GB."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def memory_text(size: float) -> str:
    """Format bytes in powers of 1024, such as 8.0 GiB."""
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size / 1024:.0f} KiB"


def seconds_text(seconds: float) -> str:
    """Format a duration, such as 0.4 s, 12 s, 3 min 05 s or 2 h 03 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def quantity(number: int, noun: str) -> str:
    """Return `1 step` or `2,000 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float | None) -> str:
    """Format 0.4567 as 45.7 %, and None as a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"
