"""Draw a large picture in tiles on the engines, and put them together here.

Start engines in a terminal with ``ipcluster -n 4``, then run
``python parallel_plotting.py``.
"""

import io
import sys

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from ipython1.kernel import client

output = sys.argv[1] if len(sys.argv) > 1 else "parallel_plotting.png"
open(output, "ab").close()  # fails before the work, not after it

WIDTH, HEIGHT = 840, 480
TILE = 120  # pixels
STEPS = 400
WEST, EAST, MIDDLE = -2.7, 1.4, 0.0  # the part of the plane
PIXEL = (EAST - WEST) / WIDTH
twilight = matplotlib.colormaps["twilight_shifted"]


def escape_steps(corner):
    """After how many steps of z -> z**2 + c the points of a tile have left."""
    column, row = corner
    x = WEST + PIXEL * (column + np.arange(TILE) + 0.5)
    y = MIDDLE + PIXEL * (HEIGHT / 2 - row - np.arange(TILE) - 0.5)
    c = (x[None, :] + 1j * y[:, None]).ravel()
    steps = np.full(c.size, STEPS)
    places, z = np.arange(c.size), np.zeros(c.size, complex)
    for step in range(STEPS):
        z = z * z + c[places]
        gone = z.real**2 + z.imag**2 > 4
        steps[places[gone]] = step
        places, z = places[~gone], z[~gone]  # go on with those that stay
    return steps.reshape(TILE, TILE)


def draw(corner):
    """Return the place of a tile, a PNG of it, and how many of its points stay."""
    steps = escape_steps(corner)
    shade = np.log1p(steps) / np.log1p(STEPS)
    colours = twilight(np.round(shade * 24) / 24, bytes=True)
    colours[steps == STEPS] = 0, 0, 0, 255
    file = io.BytesIO()
    Image.fromarray(colours).convert("RGB").save(file, "PNG")
    return corner, file.getvalue(), int((steps == STEPS).sum())


rows, columns = range(0, HEIGHT, TILE), range(0, WIDTH, TILE)
corners = [(x, y) for y in rows for x in columns]
picture = Image.new("RGB", (WIDTH, HEIGHT))
inside = 0
pending = client.TaskClient().map(draw, corners, block=False)
for corner, png, points in pending.as_completed():
    # A slow tile does not hold up the others.
    picture.paste(Image.open(io.BytesIO(png)), corner)
    inside += points

# Mark each tile with the colour of the engine that has drawn it.
pen = ImageDraw.Draw(picture)
for engine, tiles in pending.get_dict().items():
    red, green, blue, _ = matplotlib.colormaps["Set1"](engine % 9, bytes=True)
    for (x, y), _, _ in tiles:
        colour = int(red), int(green), int(blue)
        pen.rectangle([x, y, x + 16, y + 16], fill=colour, outline="white")

print(f"{len(corners)} tiles of {TILE} x {TILE} points")
print(f"area of the set: {inside * PIXEL**2:.3f} (more exactly 1.507)")
picture.quantize(64).save(output)
