"""Price options by Monte Carlo, and see how good the prices are.

Start engines in a terminal with ``ipcluster -n 4``, then run
``python option_pricing.py``.
"""

import sys
from statistics import NormalDist

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ipython1.kernel import client

output = sys.argv[1] if len(sys.argv) > 1 else "option_pricing.png"
open(output, "ab").close()  # fails before the work, not after it

TASKS = 128
PATHS = 10_000  # of each task
MONTHS = 12
SPOT, RATE, VOLATILITY = 100.0, 0.03, 0.25  # today's price; per year
STRIKES = np.arange(70, 131, 5)


def simulate(seed):
    """Sums of pay-offs and of their squares, of both options at each strike."""
    step = 1 / MONTHS
    random = np.random.default_rng(seed)
    drift, spread = (RATE - VOLATILITY**2 / 2) * step, VOLATILITY * step**0.5
    moves = random.normal(drift, spread, size=(MONTHS, PATHS))
    prices = SPOT * np.exp(np.cumsum(moves, axis=0))
    # The European call looks at the last price, the Asian call at the average.
    ends = np.stack([prices[-1], prices.mean(axis=0)])
    payoffs = np.exp(-RATE) * np.maximum(ends[:, None, :] - STRIKES[:, None], 0)
    return payoffs.sum(axis=-1), (payoffs**2).sum(axis=-1)


def black_scholes(strike):
    """The exact price of the European call."""
    d1 = np.log(SPOT / strike) / VOLATILITY + RATE / VOLATILITY + VOLATILITY / 2
    normal = NormalDist().cdf
    return SPOT * normal(d1) - strike * np.exp(-RATE) * normal(d1 - VOLATILITY)


# A seed for each task: the result is the same for any number of engines.
seeds = np.random.SeedSequence(1973).spawn(TASKS)
sums = client.TaskClient().map(simulate, seeds)

# What we would have known after 1, 2, 3, ... tasks.
paths = PATHS * np.arange(1, TASKS + 1)[:, None, None]
means = np.cumsum([first for first, _ in sums], axis=0) / paths
squares = np.cumsum([second for _, second in sums], axis=0) / paths
errors = np.sqrt((squares - means**2) / paths)
(european, asian), (european_error, asian_error) = means[-1], errors[-1]
exact = np.array([black_scholes(strike) for strike in STRIKES])

print(f"{TASKS * PATHS:,} paths")
print("strike  Monte Carlo       Black-Scholes  Asian call")
for k in range(0, len(STRIKES), 2):
    print(
        f"{STRIKES[k]:6}  {european[k]:6.3f} +- {european_error[k]:.3f}"
        f"  {exact[k]:13.3f}  {asian[k]:6.3f} +- {asian_error[k]:.3f}"
    )
worst = np.abs((european - exact) / european_error).max()
print(f"the worst of {len(STRIKES)} prices is {worst:.1f} standard errors away")

matplotlib.rcParams["font.size"] = 12
figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(STRIKES, exact, label="Black-Scholes")
left.plot(STRIKES, european, "o", label="Monte Carlo")
left.plot(STRIKES, asian, "s--", color="C2", label="Asian call", markersize=5)
left.set(xlabel="strike ($)", ylabel="price ($)", title="Prices over strikes")
left.legend()
k = int(np.flatnonzero(STRIKES == SPOT)[0])
right.loglog(paths[:, 0, 0], errors[:, 0, k], label="standard error")
true_errors = np.abs(means[:, 0, k] - exact[k])
right.loglog(paths[:, 0, 0], true_errors, ".", label="true error")
right.set(xlabel="paths", ylabel="error ($)", title="Error, strike 100")
right.set_ylim(bottom=2e-4)
right.legend(loc="lower left")
figure.savefig(output)
