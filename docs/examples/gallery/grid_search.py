"""Let scikit-learn search a grid of parameters on the engines, with the search unchanged.

Start a cluster with ``ipcluster -n 4`` in a terminal, then run ``python grid_search.py``.
"""

import sys

import joblib
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from ipython1.kernel import client

IMAGES = 400  # of the 1797 handwritten digits in the data set
COSTS = [0.01, 0.1, 1, 10, 100]
GAMMAS = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2]


def search(images, digits):
    """An ordinary search. It has no idea where its fits run."""
    return GridSearchCV(SVC(), {"C": COSTS, "gamma": GAMMAS}, cv=3).fit(images, digits)


def score_surface(found):
    """The mean scores: one row for each C, one column for each gamma."""
    return found.cv_results_["mean_test_score"].reshape(len(COSTS), len(GAMMAS))


def draw(found):
    scores = score_surface(found)
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(scores, origin="lower", aspect="auto", vmin=0)
    axes.set(title="A support vector machine that reads digits", xlabel="gamma", ylabel="C")
    axes.set_xticks(range(len(GAMMAS)), GAMMAS)
    axes.set_yticks(range(len(COSTS)), COSTS)
    for (row, column), score in np.ndenumerate(scores):
        color = "black" if score > 0.5 else "white"
        axes.text(column, row, f"{score:.2f}", ha="center", va="center", color=color)
    best = GAMMAS.index(found.best_params_["gamma"]), COSTS.index(found.best_params_["C"])
    axes.plot(*best, "s", markersize=40, color="none", markeredgecolor="red", markeredgewidth=2)
    figure.colorbar(image, label="share read correctly")
    return figure


def main(path="grid_search.png"):
    open(path, "ab").close()  # fails before the work, not after it
    images, digits = load_digits(return_X_y=True)
    images, digits = images[:IMAGES], digits[:IMAGES]

    client.register_joblib_backend()
    with joblib.parallel_config("ipython1"):
        found = search(images, digits)
    print("on the engines: ", found.best_params_, f"score {found.best_score_:.4f}")

    serial = search(images, digits)
    print("in this process:", serial.best_params_, f"score {serial.best_score_:.4f}")
    same = np.array_equal(score_surface(found), score_surface(serial))
    print("the same scores:", same)
    draw(found).savefig(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
