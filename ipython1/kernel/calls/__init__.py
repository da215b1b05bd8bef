"""A client's calls on engines that it names: requests, results, waiting, live output.

Programs find ``Call``, ``Request``, ``Targets`` and ``normalize_targets`` here.
"""

from ipython1.kernel.basics.naming import lazy_names

_WHERE = dict.fromkeys(
    ("Call", "Request", "Targets", "normalize_targets"), "ipython1.kernel.calls.calls"
)

__all__ = ["Call", "Request", "Targets", "normalize_targets"]

__getattr__ = lazy_names(__name__, _WHERE)
