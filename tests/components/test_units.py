"""Sizes and durations, read and written."""

from datetime import timedelta

import pytest

from components.units import memory_text, parse_duration, parse_size, size_text

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[("8GiB", 8 * GIB), ("8Gi", 8 * GIB), ("64 KiB", 65536), ("1.5G", 1_500_000_000), ("500MB", 500_000_000)],
        *[("50gb", 50_000_000_000), ("50000000000", 50_000_000_000), ("7", 7), ("7B", 7), ("0", 0)],
    ],
)
def test_sizes_are_read_as_people_and_kubernetes_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "8GiBs", "-1G", "1e9", "i", "8i", "GiB", "1,5G"])
def test_other_texts_are_no_size(text: str) -> None:
    assert parse_size(text) is None


def test_durations() -> None:
    assert parse_duration("90s") == timedelta(seconds=90)
    assert parse_duration(" 12h ") == timedelta(hours=12)
    assert parse_duration("2w") == timedelta(days=14)
    assert [parse_duration(text) for text in ("", "h", "-1h", "1.5h", "1y", "1 h")] == [None] * 6


def test_the_unit_fits_the_size() -> None:
    sizes = (2048, 3 << 20, GIB, 5 << 40)
    assert [memory_text(size) for size in sizes] == ["2 KiB", "3.0 MiB", "1.0 GiB", "5.0 TiB"]
    assert [size_text(size) for size in (999, 1500, 2_500_000_000)] == ["999 B", "1.5 kB", "2.5 GB"]
