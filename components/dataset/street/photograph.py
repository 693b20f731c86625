"""One street scene and its labels.

Road, walls and sky are cast ray by ray, all pixels at once (background.py); what stands in the street is drawn over
them from far to near (objects.py). Only arithmetic that rounds alike everywhere is used, so that one seed gives one
picture.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from components.dataset.street.background import cast_background
from components.dataset.street.model import Array, Light
from components.dataset.street.objects import draw_objects
from components.dataset.street.plan import plan_camera, plan_light, plan_street


def draw_street(rng: np.random.Generator, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A scene of its own for every generator state: image (H, W, 3) RGB and label (H, W) of class ids."""
    street = plan_street(rng)
    camera = plan_camera(rng, width, height, street)
    light = plan_light(rng)
    color, label = cast_background(rng, camera, street, light)
    draw_objects(rng, camera, street, light, color, label)
    return _photograph(rng, color, light), label


def _photograph(rng: np.random.Generator, color: Array, light: Light) -> NDArray[np.uint8]:
    """What a sensor makes of it: exposure, a lens a little soft, noise that grows with the light."""
    height, width = color.shape[:2]
    exposed = np.clip(color * light.exposure, 0, None)
    exposed = exposed * 1.8 / (exposed + 0.8)  # highlights roll off as film's do
    picture = Image.fromarray((np.clip(exposed, 0, 1) * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.6)) * min(width / 256, 1.5)))
    sensor = np.asarray(picture, dtype=np.float32)
    grain = rng.standard_normal((height, width, 3), dtype=np.float32)
    grain[..., 1:] = 0.6 * grain[..., :1] + 0.7 * grain[..., 1:]
    amount = float(rng.uniform(1.5, 4.5))
    return np.clip(sensor + grain * amount * (0.5 + sensor / 255), 0, 255).astype(np.uint8)
