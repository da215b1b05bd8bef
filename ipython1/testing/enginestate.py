"""What a test may change of an engine's process, put back between tests; runs on the engines."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_first: tuple[str, dict[str, str], list[str]] | None = None
"""The working directory, the environment, and where modules are found, as the engine's process had them at first."""


def put_back(path: Sequence[str]) -> None:
    """Put back what tests have changed.

    :param path: where the tests' process finds modules; what the engine lacks of it comes after its own.
    """
    global _first
    if _first is None:
        _first = (os.getcwd(), dict(os.environ), list(sys.path))
    directory, environ, own_path = _first
    os.chdir(directory)
    if dict(os.environ) != environ:
        os.environ.clear()
        os.environ.update(environ)
    if sys.__stdout__ is not None and sys.__stderr__ is not None:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    sys.path[:] = [*own_path, *(each for each in path if each not in own_path)]
