"""The command lines of programs of this package.

This imports next to nothing, because it is needed before all else when a cluster is started.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def package_root() -> str:
    """Return the directory that contains the running ``ipython1`` package."""
    return str(Path(__file__).resolve().parents[2])


def python_command(module: str, argv: Sequence[str], *, python: str = "") -> list[str]:
    """Return the command line that runs ``module.main(argv[1:])`` in a new Python process, named ``argv[0]``.

    It finds the package even if it is not installed, and does not search the current directory.

    :param python: the interpreter; empty for the current one.
    """
    code = (
        f"import sys; sys.path.append({package_root()!r}); sys.argv[0] = {argv[0]!r}; "
        f"from {module} import main; sys.exit(main(sys.argv[1:]))"
    )
    return [python or sys.executable, "-P", "-c", code, *argv[1:]]
