"""A controller with many light engines; the part to run is the argument."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ipython1.kernel import client
from ipython1.kernel.host.openfiles import CLIENT_PLACES, OTHER_FILES
from tests.lightengines import CODE, CONTROLLER, controller, light_engines, measure

LIMIT = 150
"""Files that the controller may open."""

LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, {limit}));"
    " from ipython1.kernel.scripts.ipcontroller import main; sys.exit(main([]))"
)


def figures() -> None:
    """What is measured makes sense."""
    found = measure(engines=20, processes=2, calls=3)
    assert (found.engines, found.processes, len(found.broadcast)) == (20, 2, 3)
    assert 0 < found.broadcast_median < found.registered
    assert 0 < found.memory < 2**20


def few_files() -> None:
    """Engines for which there is no place are told so, and clients get in all the same."""
    most = LIMIT - CLIENT_PLACES - OTHER_FILES
    command = (*CONTROLLER[:1], "-c", LIMITED.format(limit=LIMIT))
    with (
        controller(command) as (directory, _),
        light_engines(directory, most + 4, 2) as (first, second),
    ):
        first.go()
        first.expect("registered")
        second.go()
        try:
            second.expect("registered")
        except RuntimeError as refusal:
            assert f"{LIMIT} files" in str(refusal) and "ulimit -Hn" in str(refusal), refusal
        else:
            raise AssertionError("none was refused")
        furl = str(directory / "security" / "ipcontroller-mec.furl")
        mecs = [client.MultiEngineClient(furl) for _ in range(CLIENT_PLACES)]
        for mec in mecs:
            assert len(mec.execute(CODE)) == most
        for mec in mecs:
            mec.close()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
