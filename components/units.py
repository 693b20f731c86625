"""Sizes, durations and shares: as text for people, and read from what they type."""


def size_text(count: int) -> str:
    """Bytes for people, as 2.5 GB."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def seconds_text(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 05 s, 2 h 03 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float | None) -> str:
    """0.4567 as 45.7 %; what is undefined as a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"
