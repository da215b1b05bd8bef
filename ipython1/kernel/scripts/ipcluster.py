"""``ipcluster``: start a controller and engines, and end them together.

What this module imports at its top is little, because the process that does the long imports (the nanny) is started
before this one does its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    :returns: the exit status: 0, or 1 for a failure at run time.
    """
    from ipython1.daemon.streams import open_standard_streams

    open_standard_streams()
    from ipython1.kernel.basics.error import KernelError
    from ipython1.kernel.scripts.clusteroptions import parse_cluster

    try:
        command = parse_cluster(argv)
        if command.action == "start" and not command.daemonize:
            from ipython1.kernel.scripts.clusterstart import start

            return start(command)
        from ipython1.kernel.scripts import clusteractions

        return clusteractions.run(command, sys.argv[1:] if argv is None else argv)
    except KernelError as problem:
        print(f"ipcluster: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


if __name__ == "__main__":
    sys.exit(main())
