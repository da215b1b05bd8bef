"""Distances between the eigenvalues of random matrices, against Wigner's laws.

Start engines in a terminal with ``ipcluster -n 4``, then run
``python eigenvalue_statistics.py``.
"""

import sys

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ipython1.kernel import client

output = sys.argv[1] if len(sys.argv) > 1 else "eigenvalue_statistics.png"
open(output, "ab").close()  # fails before the work, not after it

MATRICES = 400
ORDER = 100

mec = client.MultiEngineClient()


def eigenvalues(seed):
    """Eigenvalues of a random symmetric matrix, scaled to lie between -1 and 1."""
    matrix = np.random.default_rng(seed).normal(size=(ORDER, ORDER))
    return np.linalg.eigvalsh(matrix + matrix.T) / np.sqrt(8 * ORDER)


# Each engine gets its share of the seeds, and keeps what it has computed.
mec.scatter("seeds", range(MATRICES))
mec.push({"eigenvalues": eigenvalues})
mec.execute("import numpy as np")
mec.execute("levels = np.array([eigenvalues(seed) for seed in seeds])")

# Look at a part of the result before fetching the whole.
mec.execute("largest = levels.max(initial=-1)")
print(f"largest eigenvalue: {max(mec['largest']):.3f}; the semicircle ends at 1")
levels = mec.gather("levels")
print(f"{levels.size:,} eigenvalues of {MATRICES} matrices")


def semicircle(x):
    """The share of eigenvalues below x, for matrices of infinite order."""
    return 0.5 + (x * np.sqrt(1 - x**2) + np.arcsin(x)) / np.pi


# In the middle of the spectrum, measured by the mean distance at that place.
middle = np.clip(levels, -1, 1)[:, ORDER // 4 : -ORDER // 4]
spacings = np.diff(ORDER * semicircle(middle), axis=1).ravel()
print(f"mean of {spacings.size:,} spacings: {spacings.mean():.3f}")

spacings.sort()
steps = np.arange(1, spacings.size + 1) / spacings.size
for name, law in (
    ("Wigner", 1 - np.exp(-np.pi / 4 * spacings**2)),
    ("independent levels", 1 - np.exp(-spacings)),
):
    distance = np.abs(steps - law).max()
    print(f"largest distance from the law for {name}: {distance:.3f}")

matplotlib.rcParams["font.size"] = 12
figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
left, right = figure.subplots(1, 2)
x = np.linspace(-1, 1, 400)
left.hist(levels.ravel(), bins=50, density=True, color="C0", alpha=0.4)
left.plot(x, 2 / np.pi * np.sqrt(1 - x**2), label="semicircle")
left.set(xlabel="eigenvalue", ylabel="density", title="All eigenvalues")
left.legend(loc="lower center")
s = np.linspace(0, 4, 400)
right.hist(spacings, bins=50, range=(0, 4), density=True, color="C0", alpha=0.4)
surmise = np.pi / 2 * s * np.exp(-np.pi / 4 * s**2)
right.plot(s, surmise, label="Wigner's surmise")
right.plot(s, np.exp(-s), "--", color="C3", label="independent levels")
right.set(xlabel="spacing / mean spacing", title="Their spacings")
right.legend()
figure.savefig(output)
