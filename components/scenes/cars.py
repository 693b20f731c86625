"""Cars along the street, seen from behind or from the front, and across it, seen from the side."""

import numpy as np

from components.scenes.model import Camera, Color
from components.scenes.sprites import Point, Sprite

_PAINTS: tuple[Color, ...] = (
    (0.86, 0.86, 0.86), (0.10, 0.10, 0.11), (0.45, 0.46, 0.48), (0.62, 0.10, 0.09), (0.10, 0.20, 0.46),
    (0.66, 0.68, 0.70), (0.12, 0.30, 0.20), (0.74, 0.58, 0.20), (0.34, 0.12, 0.14), (0.30, 0.42, 0.56),
    (0.82, 0.40, 0.12), (0.22, 0.20, 0.18),
)  # fmt: skip
_GLASS: Color = (0.13, 0.16, 0.19)
_RUBBER: Color = (0.05, 0.05, 0.05)
_INSET = 0.16
"""Metres by which the roof is narrower than the body, on each side."""


class Body:
    """A random car's dimensions in metres, and its paint."""

    def __init__(self, rng: np.random.Generator) -> None:
        kind = int(rng.choice(3, p=[0.6, 0.28, 0.12]))  # saloon, high car, van
        self.length = float(rng.uniform(3.9, 4.7)) + (kind == 2) * 0.8
        self.width = float(rng.uniform(1.66, 1.84)) + (kind == 2) * 0.15
        self.roof = (1.44, 1.66, 2.05)[kind] + float(rng.uniform(-0.05, 0.08))
        self.belt = 0.86 + 0.12 * kind
        self.front = 1.25 - 0.3 * (kind == 2)  # bonnet length
        self.back = (0.55, 0.12, 0.05)[kind]  # boot length
        shade = float(rng.uniform(0.75, 1.1))
        paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
        self.paint: Color = (paint[0] * shade, paint[1] * shade, paint[2] * shade)


def toned(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


def car_along(camera: Camera, body: Body, x: float, z: float, *, oncoming: bool) -> Sprite:
    """Draw a car along the street with its near end at z and its middle at x."""
    far = z + body.length
    left, right = x - body.width / 2, x + body.width / 2
    columns = [camera.column(edge, depth) for edge in (left, right) for depth in (z, far)]
    sprite = Sprite(camera, (min(columns), camera.row(body.roof, z), max(columns), camera.row(0, z)))
    if not sprite.visible:
        return sprite
    hood, deck = (body.front, body.back) if oncoming else (body.back, body.front)
    screen, rear = z + hood, far - deck
    top = screen + (0.55 if hood > 0.3 else 0.2)
    if camera.x < left or camera.x > right:
        x_side, inward = (left, 1) if camera.x < left else (right, -1)
        _flank(sprite, body, x_side, inward, (z, far), (screen, top, rear - 0.3, rear))
    inset = _INSET
    sprite.polygon([(left, body.belt, z), (right, body.belt, z), (right, body.belt, screen), (left, body.belt, screen)],
                   toned(body.paint, 1.15))  # fmt: skip
    roof: list[Point] = [(left + inset, body.roof, top), (right - inset, body.roof, top)]
    sprite.polygon([(left + 0.04, body.belt, screen), (right - 0.04, body.belt, screen), *reversed(roof)],
                   toned(body.paint, 0.9))  # fmt: skip
    pane = 0.1
    sprite.polygon(
        [(left + pane + 0.04, body.belt + 0.05, screen), (right - pane - 0.04, body.belt + 0.05, screen),
         (right - inset - pane, body.roof - 0.08, top), (left + inset + pane, body.roof - 0.08, top)],
        (0.24, 0.28, 0.32) if oncoming else _GLASS,
    )  # fmt: skip
    sprite.polygon([*roof, (right - inset, body.roof, rear - 0.3), (left + inset, body.roof, rear - 0.3)],
                   toned(body.paint, 1.2))  # fmt: skip
    _end(sprite, body, left, right, z, oncoming=oncoming)
    return sprite


def _flank(
    sprite: Sprite,
    body: Body,
    x: float,
    inward: int,
    ends: tuple[float, float],
    cabin: tuple[float, float, float, float],
) -> None:
    """Draw the side that faces the camera: sheet metal, windows, wheels.

    Args:
        inward: direction towards the car's middle, -1 or 1.
        cabin: z of the near window's lower edge, of both ends of the roof, and of the far window's lower edge.
    """
    (z, far), (screen, top, roof_end, rear) = ends, cabin
    paint, roof_x = toned(body.paint, 0.78), x + inward * _INSET
    # The dark area below the car is part of the car.
    sprite.polygon([(x, 0.1, z), (x, 0.4, z), (x, 0.4, far), (x, 0.1, far)], _RUBBER)
    sprite.polygon([(x, 0.26, z), (x, body.belt, z), (x, body.belt, far), (x, 0.26, far)], paint)
    outline = [(x, body.belt, screen), (roof_x, body.roof, top), (roof_x, body.roof, roof_end), (x, body.belt, rear)]
    sprite.polygon(outline, paint)
    low, high = body.belt + 0.04, body.roof - 0.12
    for start, end in ((screen + 0.35, (screen + rear) / 2 - 0.06), ((screen + rear) / 2 + 0.06, rear - 0.35)):
        slant = 0.25 if start < (screen + rear) / 2 else 0.0
        lean = x + (roof_x - x) * 0.85
        sprite.polygon([(x, low, start), (lean, high, start + slant), (lean, high, end - 0.1), (x, low, end)], _GLASS)
    for wheel in (z + 0.75, far - 0.8):
        for radius, color in ((0.33, _RUBBER), (0.2, (0.45, 0.46, 0.47))):
            ring = [(x, 0.33 + radius * up, wheel + radius * ahead) for ahead, up in _CIRCLE]
            sprite.polygon(ring, color)


def _end(sprite: Sprite, body: Body, left: float, right: float, z: float, *, oncoming: bool) -> None:
    sprite.box((left + 0.05, right - 0.05), (0.12, 0.4), z, _RUBBER)
    for tyre in (left + 0.05, right - 0.27):
        sprite.box((tyre, tyre + 0.22), (0.0, 0.4), z, _RUBBER)
    sprite.box((left, right), (0.28, body.belt), z, body.paint)
    sprite.box((left + 0.03, right - 0.03), (0.22, 0.42), z, toned(body.paint, 0.6))
    lamp: Color = (1.0, 0.98, 0.86) if oncoming else (0.75, 0.06, 0.05)
    for start in (left + 0.06, right - 0.36):
        sprite.box((start, start + 0.3), (body.belt - 0.24, body.belt - 0.08), z, lamp)
    middle = (left + right) / 2
    if oncoming:
        sprite.box((middle - 0.45, middle + 0.45), (body.belt - 0.36, body.belt - 0.16), z, (0.07, 0.07, 0.08))
    sprite.box((middle - 0.26, middle + 0.26), (0.46, 0.57), z, (0.85, 0.85, 0.80))


def car_across(camera: Camera, body: Body, x: float, z: float, heading: int) -> Sprite:
    """Draw a car that crosses the street at z with its middle at x, driving towards side -1 or 1."""
    half = body.length / 2
    sprite = Sprite(
        camera,
        (camera.column(x - half, z), camera.row(body.roof, z), camera.column(x + half, z), camera.row(0, z)),
    )
    if not sprite.visible:
        return sprite

    def outline(points: tuple[tuple[float, float], ...]) -> list[Point]:
        return [(x + heading * along, up, z) for along, up in points]

    screen, rear = half - body.front, -half + body.back
    sprite.polygon(
        outline(((-half, 0.28), (-half, body.belt), (half - 0.1, body.belt - 0.12), (half, 0.6), (half, 0.28))),
        body.paint,
    )
    sprite.polygon(
        outline(((rear, body.belt), (rear + 0.4, body.roof), (screen - 0.6, body.roof), (screen, body.belt - 0.05))),
        toned(body.paint, 0.9),
    )
    middle, low, high = (rear + screen) / 2, body.belt + 0.02, body.roof - 0.1
    sprite.polygon(
        outline(((rear + 0.15, low), (rear + 0.47, high), (middle - 0.05, high), (middle - 0.05, low))), _GLASS
    )
    sprite.polygon(
        outline(((middle + 0.05, low), (middle + 0.05, high), (screen - 0.62, high), (screen - 0.15, low))), _GLASS
    )
    for wheel in (-half + 0.75, half - 0.8):
        sprite.disc((x + heading * wheel, 0.33, z), (0.33, 0.33), _RUBBER)
        sprite.disc((x + heading * wheel, 0.33, z), (0.19, 0.19), (0.5, 0.5, 0.5))
    return sprite


# The twelve corners (ahead, up) of a circle.
_CIRCLE = (
    (1.0, 0.0), (0.87, 0.5), (0.5, 0.87), (0.0, 1.0), (-0.5, 0.87), (-0.87, 0.5),
    (-1.0, 0.0), (-0.87, -0.5), (-0.5, -0.87), (0.0, -1.0), (0.5, -0.87), (0.87, -0.5),
)  # fmt: skip
