"""What a process holds after it has decoded a large image in a thread, where the allocator gives nothing back."""

import subprocess
import sys

import pytest

SIDE = 6000
DECODE = f"""
import io, re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image
from components.prediction import decode

file = io.BytesIO()
Image.new("RGB", ({SIDE}, {SIDE})).save(file, "PNG", compress_level=1)

def held():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

before = held()
with ThreadPoolExecutor(1) as pool:
    pixels = pool.submit(decode.decode, file.getvalue()).result()
    print(held() - before, pixels.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_only_the_pixels_are_held_of_a_large_image() -> None:
    ended = subprocess.run([sys.executable, "-c", DECODE], capture_output=True, text=True, check=True)
    more, pixels = map(int, ended.stdout.split())
    assert pixels == SIDE * SIDE * 3
    assert more < 1.3 * pixels, "Pillow's own 4 bytes a pixel have been given back"
