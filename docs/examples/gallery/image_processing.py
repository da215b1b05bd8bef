"""Find the sharp ones among 500 photos, some of which are broken files.

Start engines in a terminal with ``ipcluster -n 4``, then run
``python image_processing.py``.
"""

import sys
import tempfile
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from tqdm import tqdm

from ipython1.kernel import client

output = sys.argv[1] if len(sys.argv) > 1 else "image_processing.png"
open(output, "ab").close()  # fails before the work, not after it

PHOTOS = 500
SIZE = 96  # pixels of a photo, each way
COLUMNS, ROWS = 10, 6  # of the contact sheet
SMALL, GAP = 80, 4  # pixels in it


def take_photos(folder):
    """Photos of pebbles, some out of focus, some broken.  Returns their blurs."""
    random = np.random.default_rng(500)
    blurs = {}
    for number in range(PHOTOS):
        hue = int(random.integers(256))
        photo = Image.new("HSV", (SIZE, SIZE), (hue, 90, 60))
        pen = ImageDraw.Draw(photo)
        for _ in range(7):
            x, y = random.uniform(8, SIZE - 8, size=2)
            size = random.uniform(10, 26)
            place = [x - size, y - size, x + size, y + size]
            nearby = (hue + int(random.integers(-20, 20))) % 256
            shade = nearby, 150, int(random.integers(140, 256))
            pen.ellipse(place, fill=shade, outline=(0, 0, 20), width=3)
        path = folder / f"{number:03}.png"
        blurs[path] = random.uniform(0, 4)
        blur = ImageFilter.GaussianBlur(blurs[path])
        photo.convert("RGB").filter(blur).save(path)
        if number % 150 == 99:
            path.write_bytes(path.read_bytes()[:1000])  # cut off
    return blurs


def process(path):
    """Return how sharp a photo is, and a small picture with good contrast."""
    with Image.open(path) as photo:
        photo.load()
    grey = np.asarray(photo.convert("L"), float)
    edges = np.diff(grey, axis=0)[:, 1:] ** 2 + np.diff(grey, axis=1)[1:] ** 2
    clear = ImageOps.autocontrast(photo, preserve_tone=True)
    return edges.mean() / grey.var(), clear.resize((SMALL, SMALL))


with tempfile.TemporaryDirectory() as folder, client.TaskClient() as tc:
    blurs = take_photos(Path(folder))
    futures = {tc.submit(process, path): path for path in blurs}
    good, broken = {}, {}
    for future in tqdm(as_completed(futures), total=PHOTOS, unit=" photos"):
        path = futures[future]
        if future.exception():
            broken[path] = future.exception()
        else:
            good[path] = future.result()

print(f"{len(good)} photos, {len(broken)} broken files:")
for path in sorted(broken):
    print(f"    {path.name}: {broken[path]}")
sharp = sorted(good, key=lambda path: good[path][0], reverse=True)
for name, part in (("sharpest", sharp[:50]), ("least sharp", sharp[-50:])):
    mean = np.mean([blurs[path] for path in part])
    print(f"mean blur of the 50 {name}: {mean:.1f} pixels")

# The contact sheet: some of the photos, from the sharpest to the least sharp.
STEP = SMALL + GAP
sheet = Image.new("RGB", (COLUMNS * STEP, ROWS * STEP), "white")
for place in range(COLUMNS * ROWS):
    path = sharp[place * len(sharp) // (COLUMNS * ROWS)]
    y, x = divmod(place, COLUMNS)
    sheet.paste(good[path][1], (x * STEP, y * STEP))
sheet.quantize(96).save(output)
