# PYTHON_ARGCOMPLETE_OK
"""``ipengine``: start an engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ipython1.kernel.scripts.clusterwords import COMPLETION


def main(argv: Sequence[str] | None = None) -> int:
    """Run an engine until it is told to end, or its controller is gone for too long.

    :returns: the exit status: 0 (or what those who started it want instead), or 1 for a failure at run time.
    """
    from ipython1.daemon.firstprocess import leave_first_place
    from ipython1.daemon.osprocess import end_with_mpi_launcher, mpi_rank
    from ipython1.daemon.ready import take_pipe

    if COMPLETION in os.environ:
        from ipython1.kernel.scripts.completion import complete

        complete("ipengine")
    from ipython1.daemon.streams import open_standard_streams

    open_standard_streams()
    leave_first_place()
    from ipython1.kernel.basics.error import KernelError
    from ipython1.kernel.scripts.engineoptions import parse_engine

    pipe = take_pipe()
    try:
        config = parse_engine(argv)
        end_with_mpi_launcher()
        add_working_directory()
        from ipython1.kernel.engine.process import run_engine

        run_engine(config, pipe)
    except KernelError as problem:
        print(f"ipengine: {problem}", file=sys.stderr)
        if mpi_rank() is not None:
            # MPI would wait for the other ranks at the end of this process, and they for this one.
            sys.stderr.flush()
            os._exit(1)
        return 1
    except KeyboardInterrupt:
        pass  # Ctrl-C before it is set up ends it as well
    pipe.leave()
    return 0


def add_working_directory() -> None:
    """Let user code import modules of the directory that the engine was started in, as IPython does.

    The directory stands behind the standard library, so that no file in it takes the place of a module of that.
    """
    if "" in sys.path:
        return
    places = [
        number
        for number, path in enumerate(sys.path)
        if path.rstrip("/\\").endswith(("site-packages", "dist-packages"))
    ]
    sys.path.insert(places[0] if places else len(sys.path), "")


def preload() -> None:
    """Import what an engine will need, in the process that it is forked from."""
    import twisted.internet.reactor  # noqa: F401

    import ipython1.kernel.engine.process
    import ipython1.kernel.host.logs
    import ipython1.kernel.scripts.engineoptions  # noqa: F401
    from ipython1.core import shell
    from ipython1.kernel.tub import tubs

    shell.preload()
    tubs.preload()


if __name__ == "__main__":
    sys.exit(main())
