"""One large picture in tiles: the engines compute and draw them, and the client puts them together.

Start engines in a terminal with ``ipcluster -n 4``, then run ``python parallel_plotting.py``.
"""

import io
import sys

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from ipython1.kernel import client

WIDTH, HEIGHT = 840, 480
TILE = 120  # pixels
STEPS = 400
WEST, EAST, MIDDLE = -2.7, 1.4, 0.0  # the part of the plane
PIXEL = (EAST - WEST) / WIDTH


def escape_steps(corner):
    """After how many steps of z -> z**2 + c each point of a tile has left; STEPS if it has not."""
    column, row = corner
    x = WEST + PIXEL * (column + np.arange(TILE) + 0.5)
    y = MIDDLE + PIXEL * (HEIGHT / 2 - row - np.arange(TILE) - 0.5)
    c = (x[None, :] + 1j * y[:, None]).ravel()
    steps, places, z = np.full(c.size, STEPS), np.arange(c.size), np.zeros(c.size, complex)
    for step in range(STEPS):
        z = z * z + c[places]
        gone = z.real**2 + z.imag**2 > 4
        steps[places[gone]] = step
        places, z = places[~gone], z[~gone]  # go on with those that are still there
    return steps.reshape(TILE, TILE)


def draw(corner):
    """Draw a tile as a PNG; return it with its place and the number of its points in the set."""
    steps = escape_steps(corner)
    shade = np.log1p(steps) / np.log1p(STEPS)
    colours = matplotlib.colormaps["twilight_shifted"](np.round(shade * 24) / 24, bytes=True)
    colours[steps == STEPS] = 0, 0, 0, 255
    file = io.BytesIO()
    Image.fromarray(colours).convert("RGB").save(file, "PNG")
    return corner, file.getvalue(), int((steps == STEPS).sum())


corners = [(x, y) for y in range(0, HEIGHT, TILE) for x in range(0, WIDTH, TILE)]
picture = Image.new("RGB", (WIDTH, HEIGHT))
inside = 0
pending = client.TaskClient().map(draw, corners, block=False)
for corner, png, points in pending.as_completed():
    # A slow tile does not hold up the others: each is put in place when it is there.
    picture.paste(Image.open(io.BytesIO(png)), corner)
    inside += points

# Mark each tile with the colour of the engine that has drawn it.
pen = ImageDraw.Draw(picture)
for engine, tiles in pending.get_dict().items():
    colour = matplotlib.colormaps["Set1"](engine % 9, bytes=True)
    for (x, y), _, _ in tiles:
        pen.rectangle([x, y, x + 16, y + 16], fill=tuple(map(int, colour)), outline="white")

print(f"{len(corners)} tiles of {TILE} x {TILE} points")
print(f"area of the set: {inside * PIXEL**2:.3f} (more exactly 1.507)")
picture.quantize(64).save(sys.argv[1] if len(sys.argv) > 1 else "parallel_plotting.png")
