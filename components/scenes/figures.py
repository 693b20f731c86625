"""People, trees, lamp posts and signs: flat shapes that always face the camera."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from components.scenes.model import Camera, Color
from components.scenes.sprites import Sprite

_SKINS: tuple[Color, ...] = ((0.86, 0.66, 0.54), (0.72, 0.52, 0.40), (0.48, 0.33, 0.25), (0.30, 0.20, 0.15))
_HAIR: tuple[Color, ...] = ((0.10, 0.08, 0.07), (0.32, 0.20, 0.12), (0.62, 0.48, 0.28), (0.55, 0.54, 0.52))
_TROUSERS: tuple[Color, ...] = ((0.12, 0.16, 0.28), (0.14, 0.14, 0.15), (0.42, 0.38, 0.32), (0.30, 0.36, 0.46))
_BOARDS: tuple[tuple[str, Color, Color], ...] = (
    ("round", (0.80, 0.08, 0.08), (0.92, 0.92, 0.90)),
    ("round", (0.08, 0.24, 0.68), (0.08, 0.24, 0.68)),
    ("triangle", (0.80, 0.08, 0.08), (0.92, 0.92, 0.88)),
    ("diamond", (0.92, 0.92, 0.90), (0.96, 0.76, 0.10)),
    ("square", (0.92, 0.92, 0.92), (0.08, 0.26, 0.66)),
    ("octagon", (0.92, 0.92, 0.92), (0.78, 0.07, 0.08)),
    ("board", (0.92, 0.92, 0.90), (0.90, 0.72, 0.10)),
)


@dataclass(frozen=True)
class Figure:
    """An object that can be drawn as a sprite."""

    tall: float
    """Height in metres."""
    draw: Callable[[], Sprite]


def _standing(camera: Camera, x: float, z: float, half: float, y: tuple[float, float]) -> Sprite:
    """Return a sprite that reaches `half` metres to either side of x, and from y[0] to y[1] above the ground."""
    return Sprite(
        camera,
        (camera.column(x - half, z), camera.row(y[1], z), camera.column(x + half, z), camera.row(y[0], z)),
    )


def person(rng: np.random.Generator, camera: Camera, x: float, z: float) -> Figure:
    tall = float(rng.uniform(1.52, 1.92))
    unit, build = tall / 1.75, float(rng.uniform(0.9, 1.25))
    stride, swing = float(rng.uniform(0, 0.28)), float(rng.uniform(-0.14, 0.14))
    skin, hair = _SKINS[int(rng.integers(4))], _HAIR[int(rng.integers(4))]
    legs, long_coat = _TROUSERS[int(rng.integers(4))], rng.random() < 0.25
    red, green, blue = (float(part) for part in rng.uniform(0.06, 0.9, 3))
    bag: Color | None = (0.25, 0.16, 0.12) if rng.random() < 0.35 else None

    def draw() -> Sprite:
        sprite = _standing(camera, x, z, 0.62, (0, tall))
        if not sprite.visible:
            return sprite
        hip, shoulder = 0.86 * unit, 1.45 * unit
        half = 0.2 * build
        for foot, tone in ((-stride, 0.75), (stride, 1.0)):
            color = (legs[0] * tone, legs[1] * tone, legs[2] * tone)
            sprite.polygon([(x - 0.13, hip, z), (x + 0.13, hip, z),
                            (x + foot + 0.08, 0.05, z), (x + foot - 0.08, 0.05, z)],
                           color)  # fmt: skip
            sprite.box((x + foot - 0.1, x + foot + 0.13), (0, 0.09), z, (0.08, 0.07, 0.07))
        coat = hip - 0.35 if long_coat else hip - 0.04
        sprite.polygon([(x - half * 0.85, coat, z), (x - half, shoulder, z), (x - half * 0.6, shoulder + 0.06, z),
                        (x + half * 0.6, shoulder + 0.06, z), (x + half, shoulder, z), (x + half * 0.85, coat, z)],
                       (red, green, blue))  # fmt: skip
        for arm, lean in ((-half, swing), (half, -swing)):
            sleeve = (red * 0.8, green * 0.8, blue * 0.8)
            hand = x + arm * 1.25 + lean
            sprite.polygon([(x + arm * 0.8, shoulder, z), (x + arm * 1.15, shoulder - 0.04, z),
                            (hand + 0.05, hip, z), (hand - 0.05, hip, z)], sleeve)  # fmt: skip
            sprite.disc((hand, hip, z), (0.055, 0.06), skin)
        if bag is not None:
            sprite.box((x + half * 0.7, x + half * 0.7 + 0.26), (hip - 0.05, hip + 0.3), z, bag)
        sprite.disc((x, tall - 0.13, z), (0.115, 0.14), skin)
        sprite.disc((x, tall - 0.07, z), (0.12, 0.085), hair)
        return sprite

    return Figure(tall, draw)


def pole(rng: np.random.Generator, camera: Camera, x: float, z: float, arm: int, tall: float = 0.0) -> Figure:
    """Return a lamp post with an arm towards side -1 or 1, or, for arm 0, a bare post of height `tall`."""
    height = tall or float(rng.uniform(4.5, 7.5))
    radius = float(rng.uniform(0.075, 0.12)) if arm else 0.045
    grey = float(rng.uniform(0.18, 0.62))
    color: Color = (grey, grey * float(rng.uniform(0.95, 1.08)), grey)
    reach = float(rng.uniform(0.8, 1.8))

    def draw() -> Sprite:
        sprite = _standing(camera, x, z, reach + 0.5 if arm else 0.3, (0, height + 0.15))
        if not sprite.visible:
            return sprite
        # Draw at least one pixel, or the post would vanish from image and label.
        half = max(radius, 0.55 * z / camera.focal)
        sprite.polygon(
            [(x - half, 0, z), (x - half * 0.8, height, z), (x + half * 0.8, height, z), (x + half, 0, z)], color
        )
        sprite.box((x, x + half), (0, height), z, (grey * 0.7, grey * 0.7, grey * 0.7))
        if arm:
            end = x + arm * reach
            thick = max(0.06, 0.55 * z / camera.focal)
            sprite.polygon([(x, height - thick, z), (x, height + thick, z), (end, height + 0.1 + thick, z),
                            (end, height + 0.1 - thick, z)], color)  # fmt: skip
            sprite.disc((end, height + 0.05, z), (0.34, max(0.1, thick)), (0.86, 0.85, 0.78))
        return sprite

    return Figure(height, draw)


def sign_board(rng: np.random.Generator, camera: Camera, x: float, z: float, height: float, size: float) -> Figure:
    """Return a sign board with its centre at `height` above the ground and a radius of about `size`, in metres."""
    shape, rim, face = _BOARDS[int(rng.integers(len(_BOARDS)))]

    def draw() -> Sprite:
        wide = size * (1.9 if shape == "board" else 1.1)
        sprite = _standing(camera, x, z, wide, (height - size * 1.1, height + size * 1.1))
        if not sprite.visible:
            return sprite
        for share, color in ((1.0, rim), (0.74, face)):
            if shape == "round":
                sprite.disc((x, height, z), (size * share, size * share), color)
            else:
                corners = _CORNERS[shape]
                sprite.polygon([(x + a * size * share, height + b * size * share, z) for a, b in corners], color)
        bar = 0.12 if shape in ("round", "octagon", "square") else 0.08
        mark: Color = (0.93, 0.93, 0.92) if face[0] + face[1] + face[2] < 1.6 else (0.08, 0.08, 0.09)
        sprite.box((x - size * 0.42, x + size * 0.42), (height - size * bar, height + size * bar), z, mark)
        return sprite

    return Figure(height + size, draw)


_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "triangle": ((-1, -0.75), (1, -0.75), (0, 1)),
    "diamond": ((-1, 0), (0, 1), (1, 0), (0, -1)),
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "board": ((-1.8, -0.7), (1.8, -0.7), (1.8, 0.7), (-1.8, 0.7)),
    "octagon": ((-0.4, -1), (0.4, -1), (1, -0.4), (1, 0.4), (0.4, 1), (-0.4, 1), (-1, 0.4), (-1, -0.4)),
}


def tree(rng: np.random.Generator, camera: Camera, x: float, z: float, large: float, *, bush: bool) -> Figure:
    """Return a tree with trunk and crown, or a bush that reaches the ground."""
    half = float(rng.uniform(0.5, 0.9)) if bush else float(rng.uniform(1.5, 2.4)) * large
    tall = float(rng.uniform(0.8, 1.7)) if bush else float(rng.uniform(4.5, 7.5)) * large
    low = 0.0 if bush else float(rng.uniform(1.9, 2.6))
    autumn = rng.random() < 0.12
    base = np.array([0.44, 0.32, 0.10] if autumn else [0.20, 0.34, 0.12]) * rng.uniform(0.7, 1.25)
    base = base * rng.uniform(0.9, 1.1, 3)
    # Draw the leaves in clumps, with the lower ones first and darker.
    count = 12 if bush else 28
    angle = rng.uniform(-1, 1, (count, 2))
    angle = angle / np.maximum(1, np.sqrt((angle * angle).sum(axis=1, keepdims=True)))
    order = np.argsort(angle[:, 1] + rng.uniform(-0.5, 0.5, count))
    sizes, tones = rng.uniform(0.24, 0.44, count), rng.uniform(0.75, 1.2, count)

    def draw() -> Sprite:
        sprite = _standing(camera, x, z, half * 1.45, (0, tall * 1.05))
        if not sprite.visible:
            return sprite
        if not bush:
            trunk = max(0.11 * large, 0.5 * z / camera.focal)
            sprite.polygon([(x - trunk * 1.2, 0, z), (x - trunk * 0.7, low + 0.8, z), (x + trunk * 0.7, low + 0.8, z),
                            (x + trunk * 1.2, 0, z)], (0.24, 0.18, 0.13))  # fmt: skip
        middle, up = (tall + low) / 2, (tall - low) / 2
        for place in order:
            across, above = float(angle[place, 0]), float(angle[place, 1])
            tone = float(tones[place]) * (0.8 + 0.35 * above)
            color = (float(base[0]) * tone, float(base[1]) * tone, float(base[2]) * tone)
            size = float(sizes[place])
            center = (x + across * half * 0.8, max(low + 0.1, middle + above * up * 0.8), z)
            sprite.disc(center, (half * size, min(half, up) * size * 1.05), color)
        return sprite

    return Figure(tall, draw)
