"""The heat equation on a square, divided among the ranks of an MPI program.

An ordinary module for mpi4py, which knows nothing of engines.  ``mpi_heat.py`` runs it on them.
"""

import numpy as np
from mpi4py import MPI


class Part:
    """The part of the grid that belongs to this rank, with a border of *halo* cells around it.

    The square has sides of 1 and is kept at temperature 0 at its edges.

    :param cells: inner grid points along each side of the square.
    :param initial: a function of arrays x and y, the temperature at the beginning.
    """

    def __init__(self, cells, initial):
        dims = MPI.Compute_dims(MPI.COMM_WORLD.size, 2)
        self.comm = MPI.COMM_WORLD.Create_cart(dims)
        self.width = 1 / (cells + 1)
        self.time = 0.0
        bounds = [
            [cells * place // parts for place in (here, here + 1)]
            for here, parts in zip(self.comm.coords, dims, strict=True)
        ]
        self.rows, self.columns = (slice(*ends) for ends in bounds)
        x, y = ((np.arange(*ends) + 1) * self.width for ends in bounds)
        self.grid = np.zeros((len(x) + 2, len(y) + 2))
        self.inner[:] = initial(x[:, None], y[None, :])

    @property
    def inner(self):
        """The temperatures of this part, without the halo."""
        return self.grid[1:-1, 1:-1]

    def exchange(self):
        """Send the outermost cells to the four neighbours, and get theirs into the halo."""
        u = self.grid
        sides = [(0, u[1], u[-1], u[-2], u[0]), (1, u[:, 1], u[:, -1], u[:, -2], u[:, 0])]
        for axis, low, high_halo, high, low_halo in sides:
            before, after = self.comm.Shift(axis, 1)
            for mine, to, halo, whence in (
                (low, before, high_halo, after),
                (high, after, low_halo, before),
            ):
                got = np.zeros(len(halo))  # stays 0 at the edge of the square, where nobody is
                self.comm.Sendrecv(np.ascontiguousarray(mine), to, 0, got, whence, 0)
                halo[:] = got

    def advance(self, until):
        """Go on in time, in steps that are as long as stability permits."""
        steps = max(1, int(np.ceil((until - self.time) / (0.2 * self.width**2))))
        factor = (until - self.time) / steps / self.width**2
        for _ in range(steps):
            self.exchange()
            u = self.grid
            around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
            self.inner[:] += factor * (around - 4 * self.inner)
        self.time = until
        return steps
