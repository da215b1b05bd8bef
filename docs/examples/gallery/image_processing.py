"""Find the sharp ones among 500 photos, with a progress bar, and in spite of some broken files.

Start engines in a terminal with ``ipcluster -n 4``, then run ``python image_processing.py``.
"""

import sys
import tempfile
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from tqdm import tqdm

from ipython1.kernel import client

PHOTOS = 500
SIZE = 96  # pixels of a photo, each way
COLUMNS, ROWS = 10, 6  # of the contact sheet
SMALL, GAP = 80, 4  # pixels in it


def take_photos(folder):
    """Photos of pebbles, more or less out of focus; some files are broken.  Returns each one's blur."""
    random = np.random.default_rng(500)
    blurs = {}
    for number in range(PHOTOS):
        hue = int(random.integers(256))
        photo = Image.new("HSV", (SIZE, SIZE), (hue, 90, 60))
        pen = ImageDraw.Draw(photo)
        for x, y, size in random.integers(
            (8, 8, 10), (SIZE - 8, SIZE - 8, 26), size=(7, 3)
        ).tolist():
            shade = (hue + int(random.integers(-20, 20))) % 256, 150, int(random.integers(140, 256))
            pen.ellipse(
                [x - size, y - size, x + size, y + size], fill=shade, outline=(0, 0, 20), width=3
            )
        path = folder / f"{number:03}.png"
        blurs[path] = random.uniform(0, 4)
        photo.convert("RGB").filter(ImageFilter.GaussianBlur(blurs[path])).save(path)
        if number % 150 == 99:
            path.write_bytes(path.read_bytes()[:1000])  # the card was pulled out too early
    return blurs


def process(path):
    """Return how sharp a photo is, and a small picture of it with good contrast."""
    with Image.open(path) as photo:
        photo.load()
    grey = np.asarray(photo.convert("L"), float)
    edges = np.diff(grey, axis=0)[:, 1:] ** 2 + np.diff(grey, axis=1)[1:] ** 2
    return edges.mean() / grey.var(), ImageOps.autocontrast(photo, preserve_tone=True).resize(
        (SMALL, SMALL)
    )


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
    print(f"mean blur of the 50 {name}: {np.mean([blurs[path] for path in part]):.1f} pixels")

# The contact sheet: some of the photos, from the sharpest to the least sharp.
sheet = Image.new("RGB", (COLUMNS * (SMALL + GAP), ROWS * (SMALL + GAP)), "white")
for place in range(COLUMNS * ROWS):
    path = sharp[place * len(sharp) // (COLUMNS * ROWS)]
    y, x = divmod(place, COLUMNS)
    sheet.paste(good[path][1], (x * (SMALL + GAP), y * (SMALL + GAP)))
sheet.quantize(96).save(sys.argv[1] if len(sys.argv) > 1 else "image_processing.png")
