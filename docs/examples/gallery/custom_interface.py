"""An interface of your own: engines that look for the shortest tour share the best one through the controller.

The program starts its own cluster. Run it with ``python custom_interface.py [FIGURE]``; it needs ``board.py`` and
``boardclient.py``, which are beside it.
"""

import math
import os
import random
import sys
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from boardclient import BoardClient

from ipython1.kernel.client import Cluster
from ipython1.kernel.security import read_furl

CITIES, ENGINES = 12, 3
INI = """
[controller]
[[controller_interfaces]]
[[[board]]]
controller_interface = board.IBoard
fc_interface = board.IFCBoard
furl_file = ipcontroller-board.furl
"""


def make_distances():
    """From each city to each other one."""
    rng = random.Random(5)
    cities = [(rng.random(), rng.random()) for _ in range(CITIES)]
    return [[math.dist(here, there) for there in cities] for here in cities]


def prepare(furl, name, distances):
    """On an engine, once: connect to the board, and keep what the search needs."""
    global board, table, nearest
    board = BoardClient(furl, name)
    table = distances
    nearest = [min(row[:here] + row[here + 1 :]) for here, row in enumerate(table)]


def search(start, shared):
    """A task: the shortest tour that begins with ``start``, and the number of partial tours looked at."""
    best, looked_at = math.inf, 0

    def extend(here, length, left):
        nonlocal best, looked_at
        looked_at += 1
        if not left and length + table[here][0] < best:
            best = length + table[here][0]
            if shared:
                best = board.offer(best)
        elif shared and looked_at % 500 == 0:
            best = board.offer(best)
        for city in sorted(left, key=table[here].__getitem__):
            # Each city that is left costs at least the way to its nearest neighbour.
            if length + table[here][city] + sum(nearest[each] for each in left) < best:
                extend(city, length + table[here][city], left - {city})

    first, second = start
    if shared:
        best = board.offer(best)
    extend(second, table[0][first] + table[first][second], set(range(1, len(table))) - set(start))
    return best, looked_at


def plot(entries, work, figure):
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(7, 4), dpi=120, width_ratios=(3, 2), layout="constrained"
    )
    times = [1000 * (when - entries[0][0]) for when, *_ in entries]
    left.step(times, [length for _, length, _ in entries], color="gray", where="post")
    for name in sorted({name for *_, name in entries}):
        own = [(t, entry[1]) for t, entry in zip(times, entries, strict=True) if entry[2] == name]
        left.scatter(*zip(*own, strict=True), label=name, zorder=3)
    left.set(xlabel="time (ms)", ylabel="shortest tour so far", title="The board")
    left.legend(title="found by")
    bars = right.bar(
        ["each task alone", "with the board"], [n / 1000 for n in work], color="tab:blue"
    )
    right.bar_label(bars, fmt="%.0f")
    right.set(ylabel="partial tours looked at (thousands)", title="The work")
    fig.savefig(figure)


def main(figure="custom_interface.png"):
    open(figure, "ab").close()  # fails before the work, not after it
    distances = make_distances()
    starts = list(permutations(range(1, CITIES), 2))
    # The controller imports ``board``, which its ini file names, and the engines ``boardclient``.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with TemporaryDirectory() as directory:
        ini = Path(directory, "ipython1.kernel.ini")
        ini.touch(0o600)  # one that others can write to would be refused
        ini.write_text(INI)
        with Cluster(n=ENGINES, ipython_dir=directory) as cluster:
            furl = str(read_furl(cluster.files.security_file("ipcontroller-board.furl")))
            mec, tc = cluster.multiengine(), cluster.task()
            for engine in mec.get_ids():
                mec[engine].apply(prepare, furl, f"engine {engine}", distances)
            alone = tc.map(search, starts, [False] * len(starts))
            shared = tc.map(search, starts, [True] * len(starts))
            entries = BoardClient(furl, "the program").entries()

    shortest = min(length for length, _ in alone)
    print(f"{len(starts)} tasks, shortest tour {shortest:.3f}")
    print("the same on the board:", math.isclose(shortest, entries[-1][1]))
    work = [sum(looked_at for _, looked_at in results) for results in (alone, shared)]
    print("at least five times less work with the board:", work[0] > 5 * work[1])
    plot(entries, work, figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
