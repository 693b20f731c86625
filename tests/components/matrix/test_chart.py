import io

import numpy as np
from PIL import Image

from components.matrix.chart import LIGHT, draw
from components.matrix.gains import Point


def test_no_bar_hides_the_other_methods() -> None:
    """At 1/16 the baseline's bar spans that of CPS, on the same number of images."""
    points = [
        Point("1/16", 23, "cps", (0.57, 0.56, 0.62)),
        Point("1/16", 23, "supervised", (0.58, 0.54, 0.64)),
    ]
    picture = Image.open(io.BytesIO(draw(points, [], title="streets", width=900, height=480)))
    pixels = np.asarray(picture.convert("RGB"))
    for color in (LIGHT.cps, LIGHT.supervised):
        drawn = (pixels == tuple(bytes.fromhex(color[1:]))).all(axis=2)
        assert drawn.any(axis=1).sum() > 300, "a bar as high as half of the picture at least"
        bar = drawn.sum(axis=0)
        assert bar.max() > 300, "upright, and in one piece but for its marker"
