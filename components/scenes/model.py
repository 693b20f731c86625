"""The model of a street scene: camera, light, street, and noise for its surfaces."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.contract import Class

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Label = NDArray[np.uint8]
Color = tuple[float, float, float]
"""Red, green and blue from 0 to 1, as the surface looks in full light."""

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
"""Distance in metres beyond which only the skyline is drawn."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking along the street. World axes in metres: x right of the road's middle, y up, z ahead."""

    width: int
    height: int
    focal: float
    """Focal length in pixels; centre and horizon are in pixels too."""
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
    """Sunlight, sky and haze."""

    sun: tuple[float, float, float]
    """Vector of length about 1 towards the sun; y is up."""
    sunlight: Array
    ambient: Array
    zenith: Array
    haze: Array
    """The sky's colour at the horizon, into which distant objects fade."""
    visibility: float
    """Distance in metres that determines how fast objects fade into the haze."""
    clouds: float
    exposure: Array


@dataclass(frozen=True)
class Row:
    """The buildings along one side of the street, by distance; building i reaches from edges[i] to edges[i + 1]."""

    x: float
    """Position of the facades; negative on the left."""
    edges: Array
    heights: Array
    """0 for a gap."""
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
    """x, first and last z, and height; a height of 0 means no fence."""
    fence_color: Array

    def at(self, z: Array) -> NDArray[np.intp]:
        return np.clip(np.searchsorted(self.edges, z, side="right") - 1, 0, len(self.heights) - 1)


@dataclass(frozen=True)
class Street:
    """The cross-section of the street, its crossing, side road and buildings; lengths in metres."""

    half_width: float
    sidewalk: tuple[float, float]
    """Widths on the left and the right."""
    verge: tuple[float, float]
    crossing: float
    """Distance of a zebra crossing; 0 means none."""
    side_road: tuple[float, float]
    """First and last z of a road that joins from both sides; equal if no road joins."""
    rows: tuple[Row, Row]

    def edge(self, side: int) -> float:
        """Return the distance from the road's middle to the sidewalk's outer edge, on side -1 or 1."""
        return self.half_width + self.sidewalk[side > 0]


@lru_cache(maxsize=1)
def _tile() -> Array:
    """Return a seamless (512, 512) tile of noise between about -1 and 1, with detail at every scale."""
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
    """Return noise at any coordinates, in pixels of the tile: features of 64 are blobs, those of 2 are grain."""
    place = ((a.astype(np.int32) & 511) << 9) | (b.astype(np.int32) & 511)
    return np.take(_tile(), place)


def mix(low: Array, high: Array, share: Array) -> Array:
    """Blend colours (..., 3) by share (...)."""
    return low + (high - low) * share[..., None]
