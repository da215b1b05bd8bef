"""A heat equation with domain decomposition: MPI ranks compute, and you look at the field in between.

Start engines with ``ipcluster mpiexec -n 4 --mpi=mpi4py``, then run ``python mpi_heat.py [FIGURE]``.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ipython1.kernel import client

CELLS = 60
TIMES = (0.0, 0.01, 0.03)
COLORS = plt.get_cmap("RdBu_r", 32)


def initial(x, y):
    """The temperature at the beginning: a large wave and a small one."""
    from numpy import pi, sin

    return sin(pi * x) * sin(pi * y) + sin(3 * pi * x) * sin(2 * pi * y)


def exact(x, y, t):
    """The exact solution: each wave decays at its own rate."""
    from numpy import exp, pi, sin

    large = exp(-2 * pi**2 * t) * sin(pi * x) * sin(pi * y)
    return large + exp(-13 * pi**2 * t) * sin(3 * pi * x) * sin(2 * pi * y)


def begin(cells, initial):
    """On each rank: create its part of the grid, which stays there under the name ``part``."""
    global part
    import heatgrid

    part = heatgrid.Part(cells, initial)
    return part.comm.rank, part.rows, part.columns


def advance(until):
    """On each rank: go on to a time; the ranks exchange their borders at every step."""
    part.advance(until)


def inner():
    """On each rank: its part of the field."""
    return part.inner


def field_of(mec, places):
    """The whole field, put together from the parts of all ranks."""
    field = np.empty((CELLS, CELLS))
    for (_, rows, columns), values in zip(places, mec.apply(inner), strict=True):
        field[rows, columns] = values
    return field


def main(figure="mpi_heat.png"):
    open(figure, "ab").close()  # fails before the work, not after it
    mec = client.MultiEngineClient()
    mec.push_module(Path(__file__).with_name("heatgrid.py"))  # the engines get the ordinary module
    places = mec.apply(begin, CELLS, initial)
    print(f"{CELLS} x {CELLS} cells on {len(places)} ranks")

    points = (np.arange(CELLS) + 1) / (CELLS + 1)
    x, y = points[:, None], points[None, :]
    fig, row = plt.subplots(1, len(TIMES), figsize=(7, 2.6), dpi=120, layout="constrained")
    for time, axes in zip(TIMES, row, strict=True):
        if time:
            mec.apply(advance, time)
        field = field_of(mec, places)
        error = np.abs(field - exact(x, y, time)).max()
        print(f"t = {time:.2f}: warmest {field.max():.3f}, error below 0.001: {error < 0.001}")
        image = axes.imshow(
            field.T, origin="lower", extent=(0, 1, 0, 1), vmin=-1.6, vmax=1.6, cmap=COLORS
        )
        axes.set(title=f"t = {time:.2f}", xlabel="x", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        for rank, rows, columns in places:
            x0, x1, y0, y1 = (
                end / CELLS for part in (rows, columns) for end in (part.start, part.stop)
            )
            axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], "k", lw=0.8)
            axes.text(x0 + 0.03, y0 + 0.03, rank, fontsize=9)
    row[0].set_ylabel("y")
    fig.colorbar(image, ax=row, label="temperature", shrink=0.8)
    fig.savefig(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
