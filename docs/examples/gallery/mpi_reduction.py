"""Statistics of data that is spread over the ranks of an MPI program, by reductions.

Start engines with ``ipcluster mpiexec -n 4 --mpi=mpi4py``, then run ``python mpi_reduction.py [FIGURE]``.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from ipython1.kernel import client

SAMPLES = 200_000  # on each rank
EDGES = np.linspace(0, 12, 61)


def make_data(samples):
    """On each rank: its part of the data, which stays there. The gamma distribution with k = 3."""
    global comm, data
    import numpy as np
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    data = np.random.default_rng(comm.rank).gamma(3.0, size=samples)
    return comm.rank


def statistics():
    """On each rank: count, mean and variance of all data. Every rank gets the same numbers."""
    count = comm.allreduce(len(data))
    mean = comm.allreduce(data.sum()) / count
    variance = comm.allreduce(((data - mean) ** 2).sum()) / count
    return count, mean, variance


def histogram(edges):
    """On each rank: add up the counts of all ranks, as arrays. Rank 0 gets the sum, the others None."""
    import numpy as np

    mine = np.histogram(data, edges)[0]
    total = np.empty_like(mine) if comm.rank == 0 else None
    comm.Reduce(mine, total, root=0)
    return total


def main(figure="mpi_reduction.png"):
    open(figure, "ab").close()  # fails before the work, not after it
    mec = client.MultiEngineClient()
    ranks = mec.apply(make_data, SAMPLES)
    count, mean, variance = mec.apply(statistics)[0]
    counts = mec.apply(histogram, EDGES)[ranks.index(0)]
    print(f"{count // SAMPLES} ranks with {SAMPLES} numbers each")
    print(f"mean {mean:.2f}, variance {variance:.2f}")

    # The data of a real program would be too large for this; here it shows that the ranks are right.
    everything = mec.gather("data")
    print("mean as by numpy:", np.isclose(mean, everything.mean()))
    print("variance as by numpy:", np.isclose(variance, everything.var()))
    print("histogram as by numpy:", np.array_equal(counts, np.histogram(everything, EDGES)[0]))

    fig, axes = plt.subplots(figsize=(7, 4), dpi=120, layout="constrained")
    axes.stairs(counts / 1000, EDGES, fill=True, alpha=0.7, label="sum of the ranks' histograms")
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    exact = count * (EDGES[1] - EDGES[0]) * middles**2 * np.exp(-middles) / 2
    axes.plot(middles, exact / 1000, "k--", lw=1, label=r"expected: $x^2 e^{-x} / 2$")
    axes.axvline(mean, color="crimson", label=f"mean: {mean:.2f}")
    axes.axvspan(mean - variance**0.5, mean + variance**0.5, color="mistyrose", zorder=0)
    axes.set(xlabel="value", ylabel="numbers (thousands)", xlim=(0, 12))
    axes.set_title(f"{count:,} numbers on {len(ranks)} ranks, with one standard deviation")
    axes.legend()
    fig.savefig(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
