"""A client's calls on explicitly named engines: requests, results, waiting and live output.

Programs can import ``Call``, ``Request``, ``Targets`` and ``normalize_targets`` from here.
"""

from collections.abc import Callable
from typing import Any

from ipython1.kernel.basics.naming import lazy_names

_WHERE = dict.fromkeys(
    ("Call", "Request", "Targets", "normalize_targets"), "ipython1.kernel.calls.calls"
)

__all__ = ["Call", "Request", "Targets", "normalize_targets"]

__getattr__: Callable[[str], Any] = lazy_names(__name__, _WHERE)
