"""Amounts of processors and memory as Kubernetes writes them."""

from __future__ import annotations

import re
from typing import Final

from ipython1.kernel.basics.error import ClusterError

_QUANTITY: Final = re.compile(r"(\d+(\.\d*)?|\.\d+)([munkMGTPE]|[KMGTPE]i|[eE]\d+)?", re.ASCII)


def check_quantity(text: str) -> str:
    """Return a text if it is an amount, or empty.

    :raises ClusterError: if it is not.
    """
    if text == "" or _QUANTITY.fullmatch(text):
        return text
    raise ClusterError(f"{text!r} is not an amount such as 2, 500m or 4Gi")
