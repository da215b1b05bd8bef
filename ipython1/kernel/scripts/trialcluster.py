"""A cluster of one engine for a moment: a program that ``--check`` runs, as it can be ended if it hangs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Start a cluster in the directory that is given, use it, and end it; print how long the start took.

    :returns: 0 if all went well; otherwise 1, and a line says what did not.
    """
    from ipython1.kernel.basics.error import KernelError
    from ipython1.kernel.clusters.cluster import Cluster

    (directory,) = argv
    begun = time.monotonic()
    try:
        with Cluster(n=1, kind="local", ipython_dir=directory) as cluster:
            started = time.monotonic() - begun
            client = cluster.multiengine()
            client.execute("answer = 6 * 7")
            (answer,) = client.pull("answer")
    except (KernelError, OSError) as problem:
        print("; ".join(str(problem).split("\n")[:3]).replace(":; ", ": "))
        return 1
    print(f"started in {started:.1f} s, computed {answer}, and stopped")
    return 0 if answer == 42 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
