"""Draw an object over a street scene, with soft edges in the image and hard edges in the label."""

import numpy as np
from PIL import Image, ImageDraw

from components.scenes.background import haze_share
from components.scenes.model import Array, Camera, Color, Label, Light, noise

Point = tuple[float, float, float]
"""World coordinates x, y, z in metres."""

OVERSAMPLING = 3


class Sprite:
    """An object, drawn at three times the resolution. Its label covers the pixels of which it covers at least half."""

    def __init__(self, camera: Camera, bounds: tuple[float, float, float, float]) -> None:
        """
        Args:
            bounds: left, top, right and bottom of the object in pixels; clipped to the image.
        """
        self.camera = camera
        self.left, self.top = max(0, int(bounds[0]) - 1), max(0, int(bounds[1]) - 1)
        self.right, self.bottom = min(camera.width, int(bounds[2]) + 2), min(camera.height, int(bounds[3]) + 2)
        self.visible = self.right > self.left and self.bottom > self.top
        if self.visible:
            size = ((self.right - self.left) * OVERSAMPLING, (self.bottom - self.top) * OVERSAMPLING)
            # The alpha channel is the coverage.
            self._canvas = Image.new("RGBA", size)
            self._paint = ImageDraw.Draw(self._canvas)

    def polygon(self, points: list[Point], color: Color) -> None:
        self._paint.polygon([self._place(point) for point in points], fill=_ink(color))

    def box(self, x: tuple[float, float], y: tuple[float, float], z: float, color: Color) -> None:
        """Draw a rectangle that faces the camera."""
        self.polygon([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)], color)

    def disc(self, center: Point, radius: tuple[float, float], color: Color) -> None:
        """Draw an ellipse that faces the camera; `radius` is horizontal and vertical, in metres."""
        column, row = self._place(center)
        scale = self.camera.focal / center[2] * OVERSAMPLING
        across, up = radius[0] * scale, radius[1] * scale
        bounds = (column - across, row - up, column + across, row + up)
        self._paint.ellipse(bounds, fill=_ink(color))

    def paste(self, color: Array, label: Label, kind: int, light: Light, z: float, shine: Array, rough: float) -> None:
        """Blend the object into the image and write its class into the label.

        Args:
            shine: the light that falls on the object, (3,).
            rough: relative variation of the surface's brightness.
        """
        canvas: Array = np.asarray(self._canvas.reduce(OVERSAMPLING), dtype=np.float32)
        cover = canvas[..., 3] / 255
        # `reduce` weights colours by coverage, so edges keep their colour.
        painted = canvas[..., :3] / 255
        height, width = cover.shape
        across = np.arange(width, dtype=np.float32)[None, :] + self.left
        down = np.arange(height, dtype=np.float32)[:, None] + self.top
        scale = np.float32(1024 / self.camera.width)
        grain = noise(across * scale + z * 31, down * scale + z * 17)
        painted *= (1 + rough * grain)[..., None] * shine
        painted += (light.haze - painted) * haze_share(np.float32(z), light)
        place = (slice(self.top, self.bottom), slice(self.left, self.right))
        color[place] += (painted - color[place]) * cover[..., None]
        label[place][cover >= 0.5] = kind

    def _place(self, point: Point) -> tuple[float, float]:
        column, row = self.camera.column(point[0], point[2]), self.camera.row(point[1], point[2])
        return (column - self.left) * OVERSAMPLING, (row - self.top) * OVERSAMPLING


def _ink(color: Color) -> tuple[int, int, int, int]:
    red, green, blue = color
    return min(255, int(red * 255)), min(255, int(green * 255)), min(255, int(blue * 255)), 255
