# PYTHON_ARGCOMPLETE_OK
"""``ipcluster``: start a controller and engines, and end them together.

What this module imports at its top is little, because the process that does the long imports (the nanny) is started
before this one even knows what exactly it is to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ipython1.kernel.scripts.clusterwords import COMPLETION, STARTING, WORDS, find_word, run_word

if TYPE_CHECKING:
    from ipython1.daemon.starting import NewNanny

CONTROLLER_MODULE: Final = "ipython1.kernel.scripts.ipcontroller"
"""What a nanny needs first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    :returns: the exit status: 0, or 1 for a failure at run time.
    """
    if COMPLETION in os.environ:
        from ipython1.kernel.scripts.completion import complete

        complete("ipcluster")
    from ipython1.daemon.firstprocess import leave_first_place
    from ipython1.daemon.streams import open_standard_streams

    open_standard_streams()
    leave_first_place()
    words = sys.argv[1:] if argv is None else list(argv)
    nanny = None
    try:
        if starts_here(words):
            from ipython1.daemon.starting import NewNanny

            nanny = NewNanny(CONTROLLER_MODULE)
        return run(words, nanny)
    except KeyboardInterrupt:
        return 1
    finally:
        # One that was set up has processes to end, and does that by itself when this one is gone.
        if nanny is not None and nanny.waits:
            nanny.give_up()


def starts_here(words: Sequence[str]) -> bool:
    """Return whether a command line most probably starts a cluster on this host, in the foreground."""
    words = words[1:] if words[:1] == ["start"] else words
    first = words[0] if words else "local"
    others = {"-h", "--help", "--version", "--daemonize", *WORDS, *STARTING}
    return (first == "local" or first.startswith("-")) and others.isdisjoint(words)


def run(words: Sequence[str], nanny: NewNanny | None) -> int:
    """Do what the command line says.

    :param nanny: for a cluster in the foreground, if it was started already.
    """
    from ipython1.kernel.basics.error import KernelError

    try:
        word, others = find_word(words)
        if word:
            return run_word(word, others)
        from ipython1.kernel.scripts.clusteroptions import parse_cluster

        command = parse_cluster(words)
        if command.action == "start" and not command.daemonize:
            from ipython1.kernel.scripts.clusterstart import start

            return start(command, nanny)
        from ipython1.kernel.scripts import clusteractions

        return clusteractions.run(command, words)
    except KernelError as problem:
        print(f"ipcluster: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
