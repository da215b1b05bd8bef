"""``python -m ipython1``: the commands, where they are not in the path, and a look at this installation."""

from __future__ import annotations

import sys
from collections.abc import Sequence

COMMANDS = ("ipcluster", "ipcontroller", "ipengine")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    :returns: the exit status: 0, 1 for a failure at run time.
    :raises SystemExit: with 2 after wrong usage.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] and words[0] in COMMANDS:
        import importlib

        sys.argv[0] = words[0]
        module = importlib.import_module(f"ipython1.kernel.scripts.{words[0]}")
        return int(module.main(words[1:]) or 0)
    from ipython1.kernel.scripts import checkaction

    return checkaction.main(words)


if __name__ == "__main__":
    sys.exit(main())
