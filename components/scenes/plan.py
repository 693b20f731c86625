"""Choose a random street: widths and buildings, camera and light."""

import numpy as np

from components.scenes.model import Array, Camera, Light, Row, Street

_WALLS = np.array(
    [
        [0.55, 0.30, 0.24], [0.62, 0.40, 0.30], [0.72, 0.66, 0.54], [0.80, 0.76, 0.68], [0.58, 0.58, 0.57],
        [0.42, 0.43, 0.45], [0.70, 0.58, 0.42], [0.60, 0.66, 0.62], [0.66, 0.70, 0.76], [0.46, 0.34, 0.28],
        [0.84, 0.82, 0.78], [0.76, 0.62, 0.50], [0.52, 0.56, 0.50], [0.74, 0.70, 0.40], [0.36, 0.38, 0.42],
    ],
    dtype=np.float32,
)  # fmt: skip
_ROOFS = np.array([[0.45, 0.22, 0.17], [0.30, 0.29, 0.30], [0.38, 0.30, 0.26], [0.24, 0.26, 0.30]], dtype=np.float32)
_FENCES = np.array([[0.42, 0.30, 0.20], [0.62, 0.60, 0.56], [0.30, 0.34, 0.30], [0.55, 0.42, 0.34]], dtype=np.float32)


def plan_street(rng: np.random.Generator) -> Street:
    half_width = float(rng.uniform(3.6, 6.2))
    sidewalk = (float(rng.uniform(1.8, 3.8)), float(rng.uniform(1.8, 3.8)))
    verge = tuple(float(rng.uniform(0.8, 4.5)) if rng.random() < 0.5 else 0.0 for _ in range(2))
    start = float(rng.uniform(14, 55))
    side_road = (start, start + float(rng.uniform(7, 11))) if rng.random() < 0.55 else (0.0, 0.0)
    crossing = 0.0
    if rng.random() < 0.5:
        crossing = side_road[0] - 3.5 if side_road[0] else float(rng.uniform(8, 30))
    tall = float(rng.uniform(0.5, 1.15))
    rows = tuple(
        _plan_row(rng, side * (half_width + sidewalk[place] + verge[place]), side_road, tall, verge[place])
        for place, side in enumerate((-1, 1))
    )
    return Street(half_width, sidewalk, (verge[0], verge[1]), crossing, side_road, (rows[0], rows[1]))


def _plan_row(rng: np.random.Generator, x: float, side_road: tuple[float, float], tall: float, verge: float) -> Row:
    edges, heights = _plan_heights(rng, side_road, tall)
    count = len(heights)
    house = heights < 9
    wall = _WALLS[rng.integers(len(_WALLS), size=count)] * rng.uniform(0.75, 1.15, (count, 1)).astype(np.float32)
    trim = np.clip(wall * rng.choice([0.6, 0.75, 1.25, 1.4], size=(count, 1)), 0, 0.95).astype(np.float32)
    glass = rng.uniform(0.08, 0.3, (count, 1)).astype(np.float32) * np.array([0.8, 0.95, 1.1], np.float32)
    # Front gardens often have a fence.
    fenced = rng.random() < (0.65 if verge else 0.2)
    first = float(rng.uniform(3, 25))
    inset = float(rng.uniform(0.1, 0.3)) if verge else -0.05
    fence = (
        x - np.sign(x) * (verge - inset if verge else 0.05),
        first,
        first + float(rng.uniform(10, 45)),
        float(rng.uniform(0.8, 1.7)) if fenced else 0.0,
    )
    return Row(
        x=x,
        edges=edges,
        heights=heights,
        wall=wall,
        trim=trim,
        glass=glass,
        roof=_ROOFS[rng.integers(len(_ROOFS), size=count)],
        roof_height=np.where(house, heights * 0.32, np.where(rng.random(count) < 0.3, 2.2, 0)).astype(np.float32),
        storey=rng.uniform(2.7, 3.6, count).astype(np.float32),
        window_pitch=rng.uniform(1.7, 3.4, count).astype(np.float32),
        window_width=rng.uniform(0.35, 0.7, count).astype(np.float32),
        shop=(rng.random(count) < 0.4) & ~house,
        fence=(float(fence[0]), *fence[1:]),
        fence_color=_FENCES[rng.integers(len(_FENCES))],
    )


def _plan_heights(rng: np.random.Generator, side_road: tuple[float, float], tall: float) -> tuple[Array, Array]:
    edges, heights = [1.0], []
    while edges[-1] < 170:
        start = edges[-1]
        if side_road[1] and start < side_road[1] and start + 6 > side_road[0]:
            edges.append(side_road[1] + float(rng.uniform(2, 4)))
            heights.append(0.0)
            continue
        end = start + float(rng.uniform(7, 20))
        if side_road[1] and start < side_road[0] < end + 5:
            end = side_road[0] - float(rng.uniform(2, 4))
        empty = rng.random() < 0.2
        height = float(rng.uniform(5, 8.5)) if rng.random() < 0.3 else float(rng.uniform(9, 20))
        edges.append(max(end, start + 2))
        heights.append(0.0 if empty else height * tall)
    return np.array(edges, np.float32), np.array(heights, np.float32)


def plan_camera(rng: np.random.Generator, width: int, height: int, street: Street) -> Camera:
    return Camera(
        width=width,
        height=height,
        focal=width * float(rng.uniform(0.72, 1.0)),
        center=width * float(rng.uniform(0.36, 0.64)),
        horizon=height * float(rng.uniform(0.40, 0.54)),
        x=float(rng.uniform(-0.15, 0.6)) * (street.half_width - 1.4),
        y=float(rng.uniform(1.3, 2.1)),
    )


def plan_light(rng: np.random.Generator) -> Light:
    """Choose between a clear day, an overcast day, a low sun, and dusk."""
    kind = ("clear", "overcast", "low", "dusk")[int(rng.choice(4, p=[0.42, 0.28, 0.18, 0.12]))]
    across, up, along = float(rng.uniform(-1, 1)), float(rng.uniform(0.45, 1.1)), float(rng.uniform(-0.9, 0.7))
    if kind == "low":
        up = float(rng.uniform(0.15, 0.35))
    length = float(np.sqrt(across * across + up * up + along * along))
    sunlight, ambient, zenith, haze = _COLORS[kind]
    tint = rng.uniform(0.9, 1.1, 3).astype(np.float32)
    bright = {"clear": (0.8, 1.15), "overcast": (0.75, 1.1), "low": (0.8, 1.2), "dusk": (0.5, 0.8)}[kind]
    return Light(
        sun=(across / length, up / length, along / length),
        sunlight=sunlight,
        ambient=ambient * tint,
        zenith=zenith * rng.uniform(0.8, 1.15),
        haze=haze * tint,
        visibility=float(rng.uniform(90, 500)) if kind != "overcast" else float(rng.uniform(60, 250)),
        clouds=float(rng.uniform(0, 1)) if kind != "overcast" else 0.25,
        exposure=float(rng.uniform(*bright)) * rng.uniform(0.93, 1.07, 3).astype(np.float32),
    )


_COLORS: dict[str, tuple[Array, Array, Array, Array]] = {
    kind: tuple(np.array(color, dtype=np.float32) for color in colors)  # type: ignore[misc]
    for kind, colors in {
        # sunlight, ambient, zenith, haze
        "clear": ((0.95, 0.88, 0.76), (0.36, 0.42, 0.52), (0.22, 0.42, 0.78), (0.72, 0.82, 0.92)),
        "overcast": ((0.0, 0.0, 0.0), (0.78, 0.79, 0.82), (0.62, 0.66, 0.72), (0.80, 0.82, 0.84)),
        "low": ((1.0, 0.68, 0.38), (0.34, 0.34, 0.44), (0.36, 0.46, 0.70), (0.96, 0.78, 0.58)),
        "dusk": ((0.12, 0.08, 0.08), (0.40, 0.40, 0.54), (0.20, 0.24, 0.46), (0.66, 0.50, 0.52)),
    }.items()
}
