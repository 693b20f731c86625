"""The things that a street scene is described with: camera, light, street, and noise for its surfaces."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.contract import Class

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Label = NDArray[np.uint8]
Color = tuple[float, float, float]
"""Red, green, blue, each 0 to 1, as the surface would look in full light."""

CLASSES = tuple(
    Class(name=name, color=color)
    for name, color in (
        ("road", (128, 64, 128)),
        ("sidewalk", (244, 35, 232)),
        ("building", (70, 70, 70)),
        ("fence", (190, 153, 153)),
        ("pole", (153, 153, 153)),
        ("traffic sign", (220, 220, 0)),
        ("vegetation", (107, 142, 35)),
        ("terrain", (152, 251, 152)),
        ("sky", (70, 130, 180)),
        ("person", (220, 20, 60)),
        ("car", (0, 0, 142)),
    )
)
ROAD, SIDEWALK, BUILDING, FENCE, POLE, SIGN, VEGETATION, TERRAIN, SKY, PERSON, CAR = range(len(CLASSES))

HORIZON_DEPTH = 160.0
"""Metres; what lies behind is the skyline."""


@dataclass(frozen=True)
class Camera:
    """A pinhole looking along the street. World: x to the right of the road's middle, y up, z ahead, in metres."""

    width: int
    height: int
    focal: float
    """Pixels, as are centre and horizon."""
    center: float
    horizon: float
    x: float
    y: float

    def column(self, x: float, z: float) -> float:
        return self.center + self.focal * (x - self.x) / z

    def row(self, y: float, z: float) -> float:
        return self.horizon + self.focal * (self.y - y) / z


@dataclass(frozen=True)
class Light:
    sun: tuple[float, float, float]
    """Towards the sun, of length about one; y is up."""
    sunlight: Array
    ambient: Array
    zenith: Array
    haze: Array
    """The sky's colour at the horizon, which distance fades into."""
    visibility: float
    """Metres at which half of a colour is haze."""
    clouds: float
    exposure: Array


@dataclass(frozen=True)
class Row:
    """The buildings along one side of the street, in the order they come; entry i reaches from edges[i] to [i+1]."""

    x: float
    """Of the facades; negative on the left."""
    edges: Array
    heights: Array
    """0 where there is a gap."""
    wall: Array
    trim: Array
    glass: Array
    roof: Array
    roof_height: Array
    storey: Array
    window_pitch: Array
    window_width: Array
    shop: Mask
    fence: tuple[float, float, float, float]
    """x, first and last z, height; height 0 is none."""
    fence_color: Array

    def at(self, z: Array) -> NDArray[np.intp]:
        return np.clip(np.searchsorted(self.edges, z, side="right") - 1, 0, len(self.heights) - 1)


@dataclass(frozen=True)
class Street:
    half_width: float
    sidewalk: tuple[float, float]
    """Widths on the left and on the right."""
    verge: tuple[float, float]
    crossing: float
    """Distance of a zebra crossing; 0 is none."""
    side_road: tuple[float, float]
    """First and last z of a road that joins from both sides; equal where there is none."""
    rows: tuple[Row, Row]

    def edge(self, side: int) -> float:
        """Where the sidewalk ends, on side -1 or 1; as a distance from the middle."""
        return self.half_width + self.sidewalk[side > 0]


@lru_cache(maxsize=1)
def _tile() -> Array:
    """512 x 512 of noise between about -1 and 1 with detail at every scale; its edges meet."""
    rng = np.random.default_rng(20210601)
    total = np.zeros((512, 512), dtype=np.float32)
    for cells in (8, 16, 32, 64, 128, 256):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        place = np.arange(512, dtype=np.float32) * cells / 512
        low = place.astype(int)
        part = place - low
        part = part * part * (3 - 2 * part)
        high = (low + 1) % cells
        rows = coarse[low] * (1 - part)[:, None] + coarse[high] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, high] * part) * (8 / cells) ** np.float32(0.5)
    return total / np.float32(np.abs(total).max())


def noise(a: Array, b: Array) -> Array:
    """Noise at coordinates of any size; 1 is one step of the tile, so 64 is a blob and 2 is grain."""
    place = ((a.astype(np.int32) & 511) << 9) | (b.astype(np.int32) & 511)
    return np.take(_tile(), place)


def mix(low: Array, high: Array, share: Array) -> Array:
    """Colours (..., 3) blended by share (...)."""
    return low + (high - low) * share[..., None]
