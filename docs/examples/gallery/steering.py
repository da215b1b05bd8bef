"""Steer a long simulation: look at it while it runs, cool it down, and let it go on.

Start a cluster with ``ipcluster -n 4`` in a terminal, then run ``python steering.py``.
"""

import sys
import threading
import time

import numpy as np
from matplotlib.figure import Figure

from ipython1.kernel import client

SIZE = 96  # of each lattice, in spins
CHANGE, END = 200, 1000  # the sweep at which the temperature changes, and the last one
HOT, COLD = 4.0, 2.0


class Magnet(threading.Thread):
    """The Ising model. It sweeps over its lattice as far as it has been told to."""

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.random = np.random.default_rng(seed)
        self.spins = self.random.choice([-1, 1], (SIZE, SIZE))
        self.black = np.indices((SIZE, SIZE)).sum(axis=0) % 2 == 0
        self.energies = []
        self.until = 0
        self.told = threading.Condition()

    def go_on(self, temperature, until):
        with self.told:
            self.temperature, self.until = temperature, until
            self.told.notify()

    def run(self):
        while len(self.energies) < END:
            with self.told:
                self.told.wait_for(lambda: len(self.energies) < self.until)
            for colour in (self.black, ~self.black):
                odds = np.exp(-2 * self.spins * self.neighbours() / self.temperature)
                self.spins[colour & (self.random.random(odds.shape) < odds)] *= -1
            self.energies.append(-np.mean(self.spins * self.neighbours()) / 2)

    def neighbours(self):
        return sum(np.roll(self.spins, step, axis) for step in (-1, 1) for axis in (0, 1))


# These run on the engines. The thread of the magnet leaves its engine free to answer.
def create(seed):
    global magnet
    magnet = Magnet(seed)
    magnet.start()


def go_on(temperature, until):
    magnet.go_on(temperature, until)


def look():
    return np.array(magnet.energies), magnet.spins.copy()


def watch(mec, until):
    """Look at all magnets until they are there; return the last look, by engine."""
    energies, _ = mec[0].apply(look)
    print(f"engine 0 is at sweep {len(energies)}")
    while True:
        looks = mec.apply(look)
        if all(len(energies) == until for energies, _ in looks):
            return looks
        time.sleep(0.1)


def exact_energy(temperature):
    """Onsager's solution for an infinite lattice, per spin."""
    tanh = np.tanh(2 / temperature)
    a, b = 1.0, abs(2 * tanh**2 - 1)
    while a - b > 1e-12:  # the arithmetic-geometric mean, for an elliptic integral
        a, b = (a + b) / 2, np.sqrt(a * b)
    return -(1 + (2 * tanh**2 - 1) / a) / tanh


def draw(before, after):
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    plot, *pictures = figure.subplot_mosaic("ppa;ppb").values()
    for engine, (energies, _) in enumerate(after):
        plot.plot(energies, linewidth=1, label=f"engine {engine}")
    for temperature, span in ((HOT, (0, CHANGE)), (COLD, (CHANGE, END))):
        label = "exact (Onsager)" if temperature == COLD else None
        plot.plot(span, [exact_energy(temperature)] * 2, "k--", linewidth=1, label=label)
    plot.axvline(CHANGE, color="tab:purple")
    cooled = f"cooled from {HOT:g} to {COLD:g}"
    plot.annotate(cooled, (CHANGE + 15, -0.6), color="tab:purple")
    plot.set(title="Energy of the magnets", xlabel="sweep", ylabel="energy per spin (J)")
    plot.legend(loc="center right")
    last = max(range(len(after)), key=lambda engine: after[engine][0][-1])
    for picture, looks in zip(pictures, (before, after), strict=True):
        energies, spins = looks[last]
        picture.imshow(spins, cmap="gray", interpolation="nearest")
        picture.set(title=f"Engine {last}, sweep {len(energies)}", xticks=[], yticks=[])
    return figure


def main(path="steering.png"):
    open(path, "ab").close()  # fails before the work, not after it
    mec = client.MultiEngineClient()
    mec.map(create, range(len(mec.get_ids())))

    mec.apply(go_on, HOT, CHANGE)  # returns at once
    before = watch(mec, CHANGE)
    hot = np.mean([energies[CHANGE // 2 :].mean() for energies, _ in before])
    print(f"hot: energy {hot:.2f} per spin, exactly {exact_energy(HOT):.2f}")

    mec.apply(go_on, COLD, END)
    after = watch(mec, END)
    cold = np.mean([energies[-1] for energies, _ in after])
    print(f"cold: energy {cold:.2f} per spin, exactly {exact_energy(COLD):.2f}")
    draw(before, after).savefig(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
