"""Place and draw the objects in a street: cars, people, trees, lamp posts, signs, and their shadows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from components.scenes.background import shaded
from components.scenes.cars import Body, car_across, car_along
from components.scenes.figures import person, pole, sign_board, tree
from components.scenes.model import (
    CAR,
    PERSON,
    POLE,
    ROAD,
    SIDEWALK,
    SIGN,
    TERRAIN,
    VEGETATION,
    Array,
    Camera,
    Label,
    Light,
    Street,
)
from components.scenes.sprites import Sprite


@dataclass(frozen=True)
class Thing:
    """An object at a place in the street."""

    kind: int
    x: float
    z: float
    """Position of the near end."""
    footprint: tuple[float, float]
    """Width and length of the shadow on the ground, in metres."""
    tall: float
    rough: float
    draw: Callable[[], Sprite]


def draw_objects(
    rng: np.random.Generator, camera: Camera, street: Street, light: Light, color: Array, label: Label
) -> None:
    """Draw random objects into colour (H, W, 3) and label (H, W), from far to near."""
    things = [thing for thing in _things(rng, camera, street) if thing.tall * camera.focal > thing.z * 4]
    things.sort(key=lambda thing: -thing.z)
    x, z = (np.array(places, np.float32) for places in zip(*((t.x, t.z) for t in things), strict=True))
    dark = shaded(street, light, x, np.full_like(x, 1.0), z)
    sunny = [thing for thing, hidden in zip(things, dark, strict=True) if not hidden]
    _shadows(camera, light, things, sunny, color, label)
    in_sunshine = light.ambient + light.sunlight * np.float32(0.75)
    for thing, hidden in zip(things, dark, strict=True):
        sprite = thing.draw()
        if sprite.visible:
            shine = light.ambient if hidden else in_sunshine
            sprite.paste(color, label, thing.kind, light, thing.z, shine, thing.rough)


def _things(rng: np.random.Generator, camera: Camera, street: Street) -> Iterator[Thing]:
    for side in (-1, 1):
        yield from _parked(rng, camera, street, side)
        yield from _posts(rng, camera, street, side)
        yield from _trees(rng, camera, street, side)
    yield from _traffic(rng, camera, street)
    yield from _people(rng, camera, street)


def _on_side_road(street: Street, z: float, margin: float) -> bool:
    return street.side_road[0] - margin < z < street.side_road[1] + margin


def _car(camera: Camera, body: Body, x: float, z: float, oncoming: bool) -> Thing:
    return Thing(
        CAR, x, z, (body.width, body.length), body.roof, 0.10,
        lambda: car_along(camera, body, x, z, oncoming=oncoming),
    )  # fmt: skip


def _parked(rng: np.random.Generator, camera: Camera, street: Street, side: int) -> Iterator[Thing]:
    share, z = float(rng.choice([0.0, 0.35, 0.7, 0.9])), float(rng.uniform(3.5, 12))
    x = side * (street.half_width - 1.15)
    while z < 50:
        body = Body(rng)
        free = abs(z - street.crossing) > 8 and not _on_side_road(street, z, 6)
        if rng.random() < share and free and abs(x - camera.x) > 1.5:
            yield _car(camera, body, x + float(rng.uniform(-0.1, 0.1)), z, side < 0)
        z += body.length + float(rng.uniform(0.7, 2.5))


def _traffic(rng: np.random.Generator, camera: Camera, street: Street) -> Iterator[Thing]:
    lane = street.half_width * 0.36
    for x, oncoming, near in ((lane, False, 9.0), (-lane, True, 7.0)):
        z = near + float(rng.exponential(14))
        while z < 60:
            yield _car(camera, Body(rng), x + float(rng.uniform(-0.3, 0.3)), z, oncoming)
            z += 9 + float(rng.exponential(22))
    if street.side_road[1] and rng.random() < 0.6:
        heading, body = int(rng.choice([-1, 1])), Body(rng)
        x, z = float(rng.uniform(-7, 7)), street.side_road[0] + (2.5 if heading > 0 else 5.5)
        yield Thing(
            CAR, x, z, (body.length, body.width), body.roof, 0.10, lambda: car_across(camera, body, x, z, heading)
        )


def _people(rng: np.random.Generator, camera: Camera, street: Street) -> Iterator[Thing]:
    places = []
    for _ in range(int(rng.integers(3, 13))):
        side = int(rng.choice([-1, 1]))
        x = side * (street.half_width + float(rng.uniform(0.4, street.sidewalk[side > 0] - 0.3)))
        places.append((x, float(rng.uniform(4, 38))))
    if street.crossing > 4:
        for _ in range(int(rng.integers(0, 5))):
            x = float(rng.uniform(-street.half_width, street.half_width))
            places.append((x, street.crossing + float(rng.uniform(-1.2, 1.2))))
    for x, z in places:
        figure = person(rng, camera, x, z)
        yield Thing(PERSON, x, z, (0.5, 0.4), figure.tall, 0.18, figure.draw)


def _posts(rng: np.random.Generator, camera: Camera, street: Street, side: int) -> Iterator[Thing]:
    x, z, step = side * (street.half_width + 0.45), float(rng.uniform(5, 18)), float(rng.uniform(13, 26))
    while z < 50:
        if not _on_side_road(street, z, 1):
            post = pole(rng, camera, x, z, -side)
            yield Thing(POLE, x, z, (0.2, 0.2), post.tall, 0.12, post.draw)
        z += step
    for _ in range(int(rng.integers(1, 4))):
        z = float(rng.uniform(5, 32))
        at = x + side * float(rng.uniform(-0.1, 0.3))
        height, size = float(rng.uniform(2.2, 3.0)), float(rng.uniform(0.32, 0.5))
        post = pole(rng, camera, at, z, 0, height + size * 0.7)
        board = sign_board(rng, camera, at, z, height, size)
        yield Thing(POLE, at, z, (0.12, 0.12), post.tall, 0.1, post.draw)
        yield Thing(SIGN, at, z - 0.05, (0.1, 0.1), board.tall, 0.08, board.draw)


def _trees(rng: np.random.Generator, camera: Camera, street: Street, side: int) -> Iterator[Thing]:
    verge = street.verge[side > 0]
    step, z = float(rng.uniform(7, 16)), float(rng.uniform(4, 16))
    along = street.edge(side) + (0.6 * verge if verge else -0.5)
    large = float(rng.uniform(0.7, 1.25))
    share = float(rng.choice([0.0, 0.5, 0.9]))
    while z < 62:
        if rng.random() < share and not _on_side_road(street, z, 2):
            at, depth = side * along + float(rng.uniform(-0.4, 0.4)), z + float(rng.uniform(-1, 1))
            green = tree(rng, camera, at, depth, large, bush=False)
            yield Thing(VEGETATION, at, depth, (2.6, 2.6), green.tall, 0.55, green.draw)
        z += step
    for _ in range(int(rng.integers(0, 7)) if verge > 1 else int(rng.random() < 0.3) * 2):
        at, depth = side * (street.edge(side) + max(verge, 0.4) * 0.6), float(rng.uniform(4, 45))
        if not _on_side_road(street, depth, 1):
            green = tree(rng, camera, at, depth, 1.0, bush=True)
            yield Thing(VEGETATION, at, depth, (1.4, 1.2), green.tall, 0.5, green.draw)


def _shadows(camera: Camera, light: Light, things: list[Thing], sunny: list[Thing], color: Array, label: Label) -> None:
    """Darken the ground below every object, and draw the shadows of those in the sun."""
    first = int(camera.horizon)
    size = (camera.width, camera.height - first)
    foot, thrown = Image.new("L", size), Image.new("L", size)
    on_foot, on_thrown = ImageDraw.Draw(foot), ImageDraw.Draw(thrown)
    for thing in things:
        if thing.kind != VEGETATION:
            on_foot.polygon(_on_ground(camera, _footprint(thing), first), fill=170)
    for thing in sunny if float(light.sunlight.max()) > 0.5 else ():
        quad = _footprint(thing)
        reach = min(thing.tall, 7.0) / max(light.sun[1], 0.25)
        shift = (-light.sun[0] * reach, -light.sun[2] * reach)
        narrow = [(x * 0.85 + thing.x * 0.15 + shift[0], z + shift[1]) for x, z in quad]
        on_thrown.polygon(_on_ground(camera, _hull(quad + narrow), first), fill=255)
    blurred = np.asarray(foot.filter(ImageFilter.GaussianBlur(camera.width / 128)), dtype=np.float32) / 255
    sharp = np.asarray(thrown.filter(ImageFilter.GaussianBlur(camera.width / 400)), dtype=np.float32) / 255
    ground = np.isin(label[first:], (ROAD, SIDEWALK, TERRAIN)).astype(np.float32)
    left = light.ambient / (light.ambient + light.sunlight * np.float32(light.sun[1]))
    area = color[first:]
    # Ground in a building's shadow gets no sun, so leave it unchanged.
    lit = np.clip(area.mean(axis=2, keepdims=True) / np.float32(0.2), 0, 1)
    area *= 1 - (1 - left) * (sharp * ground)[..., None] * lit
    area *= (1 - np.float32(0.7) * blurred * ground)[..., None]


def _footprint(thing: Thing) -> list[tuple[float, float]]:
    wide, long = thing.footprint
    return [(thing.x + dx * wide / 2, thing.z + dz) for dx, dz in ((-1, 0), (1, 0), (1, long), (-1, long))]


def _on_ground(camera: Camera, points: list[tuple[float, float]], first: int) -> list[tuple[float, float]]:
    near = [(x, max(z, 1.2)) for x, z in points]
    return [(camera.column(x, z), camera.row(0, z) - first) for x, z in near]


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the convex hull, counter-clockwise."""
    ordered = sorted(points)
    chains = []
    for run in (ordered, ordered[::-1]):
        chain: list[tuple[float, float]] = []
        for x, z in run:
            while len(chain) > 1:
                (ax, az), (bx, bz) = chain[-2:]
                if (bx - ax) * (z - az) - (bz - az) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, z))
        chains.append(chain[:-1])
    return chains[0] + chains[1]
