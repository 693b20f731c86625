"""Cast rays for all pixels at once to draw sky, skyline, ground, fences and buildings."""

import numpy as np

from components.scenes.model import (
    BUILDING,
    FENCE,
    HORIZON_DEPTH,
    ROAD,
    SIDEWALK,
    SKY,
    TERRAIN,
    VEGETATION,
    Array,
    Camera,
    Label,
    Light,
    Mask,
    Row,
    Street,
    mix,
    noise,
)


def cast_background(rng: np.random.Generator, camera: Camera, street: Street, light: Light) -> tuple[Array, Label]:
    """Draw everything except free-standing objects; return colour (H, W, 3) from 0 to about 2, and label (H, W)."""
    rows = np.arange(camera.height, dtype=np.float32)[:, None] + 0.5
    columns = np.arange(camera.width, dtype=np.float32)[None, :] + 0.5
    # The ray through a pixel is (u, -v, 1): for each metre ahead, it goes u to the right and v down.
    u = np.broadcast_to((columns - camera.center) / camera.focal, (camera.height, camera.width))
    v = np.broadcast_to((rows - camera.horizon) / camera.focal, (camera.height, camera.width))
    color, label = _sky(rng, u, v, light), np.full(u.shape, SKY, dtype=np.uint8)
    _skyline(rng, camera, v, light, color, label)
    _ground(rng, camera, street, light, u, v, color, label)
    for side in (-1, 1):
        _buildings(rng, camera, street, street.rows[side > 0], side, light, (u, v), color, label)
        _fence(camera, street.rows[side > 0], side, street, light, (u, v), color, label)
    return color, label


def hazed(color: Array, depth: Array, light: Light) -> Array:
    return mix(color, light.haze, haze_share(depth, light))


def haze_share(depth: Array | np.float32, light: Light) -> Array:
    """Return the share of haze at a depth in metres. Rational, because powers round differently by platform."""
    share = depth / (depth + np.float32(light.visibility))
    return np.asarray(share * share, dtype=np.float32)


def shaded(street: Street, light: Light, x: Array, y: Array, z: Array) -> Mask:
    """Return whether points are in the shadow of the buildings on the sun's side."""
    sun_x, sun_y, sun_z = light.sun
    row = street.rows[sun_x > 0]
    steps = np.maximum((np.float32(row.x) - x) / np.float32(sun_x or 1e-3), 0)
    return np.asarray(y + steps * np.float32(sun_y) < row.heights[row.at(z + steps * np.float32(sun_z))])


def _sky(rng: np.random.Generator, u: Array, v: Array, light: Light) -> Array:
    up = np.clip(-v * 1.6, 0, 1)
    color = mix(light.haze, light.zenith, up * (2 - up))
    # Clouds are in a plane overhead, so they get smaller towards the horizon.
    reach = 1 / (np.maximum(-v, 0) + np.float32(0.10))
    shift = rng.uniform(0, 512, 4).astype(np.float32)
    thick = noise(u * reach * 13 + shift[0], reach * 13 + shift[1])
    fine = noise(u * reach * 40 + shift[2], reach * 40 + shift[3])
    cover = np.clip((thick + 0.35 * fine) * 2.2 + np.float32(light.clouds * 1.5 - 0.75), 0, 1)
    cloud = (light.haze * 0.55 + 0.45) * (np.float32(0.92) - 0.15 * thick[..., None])
    return mix(color, cloud, cover * np.clip(up * 6, 0, 1) * np.float32(0.85))


def _skyline(rng: np.random.Generator, camera: Camera, v: Array, light: Light, color: Array, label: Label) -> None:
    """Draw the far end of the street: buildings with trees in front."""
    columns = np.arange(camera.width, dtype=np.float32) * np.float32(256 / camera.width)
    far = light.haze * 0.55
    for kind, base, step, tone in (
        (BUILDING, 0.03, 9.0, np.array([0.42, 0.42, 0.46], np.float32)),
        (VEGETATION, 0.015, 2.5, np.array([0.22, 0.30, 0.16], np.float32)),
    ):
        shift = rng.uniform(0, 512, 2).astype(np.float32)
        width = step * float(rng.uniform(0.7, 2.0))
        steps = np.floor(columns / width) * width if kind == BUILDING else columns
        profile = base + 0.05 * np.clip(noise(steps * 3 + shift[0], np.full_like(steps, shift[1])) + 0.15, 0, 1)
        mask = (-v < profile[None, :]) & (v < 0.001)
        grain = noise(columns[None, :] * 2 + shift[1], -v * 900 + shift[0])
        lit = tone * (light.ambient + 0.5 * light.sunlight) * (1 + 0.25 * grain[..., None])
        color[mask] = (lit * 0.5 + far)[mask]
        label[mask] = kind


def _ground(
    rng: np.random.Generator,
    camera: Camera,
    street: Street,
    light: Light,
    u: Array,
    v: Array,
    color: Array,
    label: Label,
) -> None:
    first = int(np.clip(np.floor(camera.horizon) + 1, 0, camera.height))
    u, v = u[first:], np.maximum(v[first:], np.float32(1e-4))
    z = np.minimum(np.float32(camera.y) / v, np.float32(4 * HORIZON_DEPTH))
    x = np.float32(camera.x) + u * z
    side = (x > 0).astype(np.intp)
    outside = np.abs(x) - np.float32(street.half_width)
    walk = np.array(street.sidewalk, np.float32)[side]
    joined = (z > street.side_road[0]) & (z < street.side_road[1])
    kind = np.where((outside < 0) | joined, ROAD, np.where(outside < walk, SIDEWALK, TERRAIN)).astype(np.uint8)
    surface = np.empty((*z.shape, 3), np.float32)
    near = np.clip(1.3 - z * np.float32(1 / 40), 0, 1)
    for code, paint in ((ROAD, _asphalt), (SIDEWALK, _slabs), (TERRAIN, _grass)):
        mask = kind == code
        if mask.any():
            surface[mask] = paint(rng, street, x[mask], z[mask], near[mask])
    sunny = np.where(shaded(street, light, x, np.zeros_like(x), z), np.float32(0), np.float32(light.sun[1]))
    surface *= light.ambient + light.sunlight * sunny[..., None]
    # Ambient occlusion: the foot of a kerb or wall sees less of the sky.
    surface *= (1 - 0.35 * np.clip(1 - np.abs(outside - 0.02) * 6, 0, 1) * (~joined))[..., None]
    color[first:] = hazed(surface, z, light)
    label[first:] = kind


def _asphalt(rng: np.random.Generator, street: Street, x: Array, z: Array, near: Array) -> Array:
    shift = rng.uniform(0, 512, 6).astype(np.float32)
    tone = np.float32(rng.uniform(0.24, 0.46)) * (1 + rng.uniform(-0.06, 0.06, 3).astype(np.float32))
    grain = noise(x * 60 + shift[0], z * 60 + shift[1]) * near * np.float32(0.35)
    stains = noise(x * 7 + shift[2], z * 2.2 + shift[3]) * np.float32(0.22)
    value = 1 + grain + stains
    for _ in range(3):  # road repairs
        left, start = rng.uniform(-street.half_width, street.half_width), rng.uniform(3, 40)
        wide, long = rng.uniform(0.6, 2.5), rng.uniform(1, 9)
        value = np.where((np.abs(x - left) < wide / 2) & (np.abs(z - start) < long / 2), value * 0.78, value)
    color = tone * value[..., None]
    paint = _markings(rng, street, x, z)
    worn = np.clip(0.85 + 0.5 * noise(x * 30 + shift[4], z * 30 + shift[5]), 0.3, 1)
    return mix(color, np.array([0.88, 0.87, 0.82], np.float32), paint * worn)


def _markings(rng: np.random.Generator, street: Street, x: Array, z: Array) -> Array:
    period = np.float32(rng.uniform(5, 9))
    dashed = ((z + np.float32(rng.uniform(0, 9))) / period) % 1 < 0.45
    middle = dashed | (rng.random() < 0.2)
    edge = np.float32(street.half_width - 0.25 if rng.random() < 0.5 else street.half_width - 2.3)
    painted = (np.abs(x) < 0.08) & middle | (np.abs(np.abs(x) - edge) < 0.06)
    painted &= (z < street.side_road[0]) | (z > street.side_road[1])
    painted &= np.abs(x) < street.half_width
    if street.crossing:
        zebra = (np.abs(z - street.crossing) < 1.6) & (np.abs(x) < street.half_width - 0.3)
        painted = np.where(zebra, (x + 40) % 1.0 < 0.5, painted)
        stop = (np.abs(z - street.crossing + 2.8) < 0.2) & (x > 0) & (x < street.half_width - 0.3)
        painted |= stop
    return painted.astype(np.float32)


def _slabs(rng: np.random.Generator, street: Street, x: Array, z: Array, near: Array) -> Array:
    shift = rng.uniform(0, 512, 4).astype(np.float32)
    tone = np.array(
        [(0.60, 0.58, 0.55), (0.52, 0.50, 0.49), (0.62, 0.46, 0.38), (0.66, 0.62, 0.52)][int(rng.integers(4))],
        np.float32,
    ) * np.float32(rng.uniform(0.75, 1.1))
    size = np.float32(rng.uniform(0.45, 1.1))
    across, along = x / size, z / size
    joint = (across % 1 < 0.09) | (along % 1 < 0.09)
    slab = noise(np.floor(across) * 37 + shift[0], np.floor(along) * 53 + shift[1]) * np.float32(0.18)
    grain = noise(x * 70 + shift[2], z * 70 + shift[3]) * np.float32(0.16)
    value = 1 + (slab + grain - 0.3 * joint) * near
    kerb = np.abs(x) - np.float32(street.half_width) < 0.2
    value = np.where(kerb, np.float32(1.2), value)
    return np.asarray(tone * value[..., None], dtype=np.float32)


def _grass(rng: np.random.Generator, street: Street, x: Array, z: Array, near: Array) -> Array:
    del street
    shift = rng.uniform(0, 512, 4).astype(np.float32)
    green = np.array([0.30, 0.42, 0.16], np.float32) * np.float32(rng.uniform(0.75, 1.2))
    earth = np.array([0.46, 0.38, 0.26], np.float32)
    patches = np.clip(noise(x * 12 + shift[0], z * 6 + shift[1]) * 1.5 + np.float32(rng.uniform(-0.2, 0.5)), 0, 1)
    blades = 1 + noise(x * 90 + shift[2], z * 40 + shift[3]) * (0.25 + 0.4 * near)
    return np.asarray(mix(green, earth, patches) * blades[..., None], dtype=np.float32)


def _buildings(  # noqa: PLR0913 - drawing state, and the two arrays that it paints
    rng: np.random.Generator,
    camera: Camera,
    street: Street,
    row: Row,
    side: int,
    light: Light,
    ray: tuple[Array, Array],
    color: Array,
    label: Label,
) -> None:
    """Draw the facades along the street, and the side walls that are visible through gaps and above lower houses."""
    u, v = ray
    columns = np.flatnonzero(side * u[0] > 1e-3)
    u, v = u[:, columns], v[:, columns]
    wall_z = np.minimum(np.float32(row.x - camera.x) / u, np.float32(HORIZON_DEPTH))
    place = row.at(wall_z)
    depth, along = wall_z, wall_z
    y = np.float32(camera.y) - v * wall_z
    todo = (u * side * HORIZON_DEPTH > abs(row.x - camera.x)) & (y > 0)
    hit = todo & (y < row.heights[place])
    front = np.zeros_like(hit)
    for _ in range(3):
        # Above a low house or through a gap, a ray reaches the next house's side wall, which faces the camera.
        behind = np.minimum(place + 1, len(row.heights) - 1)
        edge = row.edges[behind]
        height_there = np.float32(camera.y) - v * edge
        now = ~hit & todo & (height_there > 0) & (height_there < row.heights[behind])
        place = np.where(hit, place, behind)
        y, depth = np.where(now, height_there, y), np.where(now, edge, depth)
        along = np.where(now, np.abs(np.float32(camera.x) + u * edge - row.x), along)
        hit, front = hit | now, front | now
    rows_hit, columns_hit = np.nonzero(hit)
    if not len(rows_hit):
        return
    pick = (rows_hit, columns_hit)
    place, y, depth, along, front = place[pick], y[pick], depth[pick], along[pick], front[pick]
    x = np.where(front, np.float32(row.x) + side * along, np.float32(row.x))
    # Metres of wall that a pixel covers. Windows smaller than that fade to their mean colour.
    span = np.where(front, depth / camera.focal, depth * depth / np.float32(camera.focal * abs(row.x - camera.x)))
    surface = _facade(rng, row, place, along, y, span, front, light)
    surface *= _wall_light(street, light, side, x, y, depth, front)[..., None] * light.sunlight + light.ambient
    target = (rows_hit, columns[columns_hit])
    color[target] = hazed(surface, depth, light)
    label[target] = BUILDING


def _wall_light(street: Street, light: Light, side: int, x: Array, y: Array, z: Array, front: Mask) -> Array:
    """Return how much sun a wall gets, 0 to 1, depending on its direction and on shadows."""
    facing = max(0.0, -side * light.sun[0])
    toward_us = max(0.0, -light.sun[2])
    lit = np.where(front, np.float32(toward_us), np.float32(facing))
    # Start shadow rays slightly in front of the wall, or it would shade itself.
    return np.where(shaded(street, light, x - np.float32(0.2 * side), y, z - np.float32(0.2)), np.float32(0), lit)


def _facade(
    rng: np.random.Generator,
    row: Row,
    place: "np.ndarray[tuple[int], np.dtype[np.intp]]",
    along: Array,
    y: Array,
    span: Array,
    front: Mask,
    light: Light,
) -> Array:
    shift = rng.uniform(0, 512, 2).astype(np.float32)
    height, storey, pitch = row.heights[place], row.storey[place], row.window_pitch[place]
    shop = row.shop[place] & (y < storey)
    pitch = np.where(shop, pitch * 2.2, pitch)
    across, up = along / pitch, y / storey
    in_across, in_up = across % 1, up % 1
    half = np.where(shop, np.float32(0.44), row.window_width[place] / 2)
    low, high = np.where(shop, 0.15, 0.25), np.where(shop, 0.72, 0.78)
    beside, above = np.abs(in_across - 0.5) - half, np.abs(in_up - (low + high) / 2) - (high - low) / 2
    eaves = height - row.roof_height[place]
    window = (beside < 0) & (above < 0) & (y < eaves - 0.5) & ~(front & (along % 9 < 4))
    frame = (beside < 0.05) & (above < 0.06) & ~window & (y < eaves - 0.5)
    detail = np.clip(1.25 - span / pitch * 1.4, 0, 1)
    number = noise(np.floor(across) * 37 + place * 11 + shift[0], np.floor(up) * 53 + shift[1])
    bricks = noise(along * 40 + shift[0], y * 80 + shift[1]) * np.clip(1.2 - span * 5, 0.15, 1) * 0.28
    streaks = noise(along * 9 + shift[1], y * 4) * 0.2
    wall = row.wall[place] * (1 + bricks + streaks - 0.25 * np.clip(1 - y, 0, 1))[..., None]
    wall = mix(wall, row.trim[place], 0.8 * detail * (frame | (y > eaves - 0.4) | (shop & (in_up > 0.76))))
    # Some windows reflect the sky, others show a curtain; at dusk, some are lit.
    glass = row.glass[place] * (0.7 + 0.5 * np.clip(1 - in_up, 0, 1))[..., None] + light.zenith * 0.12
    glass = mix(glass, light.haze * 0.8, np.clip(number * 3 - 0.6, 0, 0.8))
    if light.sun[1] < 0.4 or light.sunlight[0] < 0.2:
        glass = mix(glass, np.array([1.5, 1.15, 0.6], np.float32), 1.0 * (number < -0.25) * (light.sunlight[0] < 0.3))
    wall = mix(wall, glass, window * (0.25 + 0.75 * detail) * np.float32(0.95))
    tiles = row.roof[place] * (1 + 0.25 * ((y * 3 % 1) < 0.3) * detail + bricks)[..., None]
    return mix(wall, tiles, (y > eaves).astype(np.float32))


def _fence(
    camera: Camera,
    row: Row,
    side: int,
    street: Street,
    light: Light,
    ray: tuple[Array, Array],
    color: Array,
    label: Label,
) -> None:
    x, first, last, height = row.fence
    across_side_road = first < street.side_road[1] and last > street.side_road[0]
    if not height or across_side_road:
        return
    u, v = ray
    z = np.where(side * u > 1e-3, np.float32(x - camera.x) / np.where(side * u > 1e-3, u, 1), -1)
    y = np.float32(camera.y) - v * z
    mask = (z > first) & (z < last) & (y > 0) & (y < height)
    if not mask.any():
        return
    z, y = z[mask], y[mask]
    post = (z % 2.4) < 0.18
    board = (z * 6 % 1) < 0.16
    rail = (np.abs(y - height * 0.25) < 0.06) | (np.abs(y - height * 0.8) < 0.06)
    detail = np.clip(1.2 - z * z / np.float32(camera.focal * abs(x - camera.x)) * 6, 0, 1)
    value = 1 + noise(z * 50, y * 30) * 0.25 + 0.25 * post - 0.35 * board * detail + 0.15 * rail
    sun = _wall_light(street, light, side, np.full_like(z, x), y, z, np.zeros(z.shape, bool))
    surface = row.fence_color * value[..., None] * (light.ambient + sun[..., None] * light.sunlight)
    color[mask] = hazed(surface, z, light)
    label[mask] = FENCE
