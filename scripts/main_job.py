"""The main job: a controller, four engines, and a computation on all of them; see ``run-main-job``."""

from __future__ import annotations

import sys
import time

from ipython1.kernel.client import MultiEngineClient
from ipython1.kernel.security import ClusterFiles, IPythonDirs
from ipython1.testing import RealCluster

ENGINES = 4
TERMS = 2_000_000


def main() -> int:
    """Compute pi as a sum, of which each engine computes a quarter.

    :returns: the exit status.
    """
    begin = time.monotonic()
    print(f"starting a controller and {ENGINES} engines ...")
    with RealCluster(ENGINES) as cluster:
        started = time.monotonic() - begin
        files = ClusterFiles(IPythonDirs.resolve(cluster.ipython_dir))
        client = MultiEngineClient(files.multiengine_furl)
        ids = client.get_ids()
        print(f"{len(ids)} engines are usable after {started:.1f} s: {ids}")
        client.push({"terms": TERMS})
        client.scatter("first", range(ENGINES), flatten=True)
        client.execute(
            f"part = sum((-1.0) ** k / (2 * k + 1) for k in range(first, terms, {ENGINES}))"
        )
        pi = 4 * sum(client.pull("part"))
    if ids != list(range(ENGINES)) or abs(pi - 3.141592) > 1e-5:
        print(f"the main job FAILED: engines {ids}, pi = {pi}")
        return 1
    print(f"the main job is done: {ENGINES} engines computed pi = {pi:.6f}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as problem:
        first, _, rest = str(problem).partition("\n")
        print(rest, file=sys.stderr)
        print(f"the main job FAILED: {type(problem).__name__}: {first}")
        sys.exit(1)
