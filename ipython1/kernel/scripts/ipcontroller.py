"""``ipcontroller``: start a controller."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Run a controller until it is told to end.

    :returns: the exit status: 0, or 1 for a failure at run time.
    """
    from ipython1.kernel.basics.error import KernelError
    from ipython1.kernel.scripts.options import parse_controller

    try:
        return run(parse_controller(argv))
    except KernelError as problem:
        print(f"ipcontroller: {problem}", file=sys.stderr)
        return 1


def preload() -> None:
    """Import what a controller will need, in the process that it is forked from."""
    import twisted.internet.reactor  # noqa: F401

    import ipython1.kernel.controller.multienginefc
    import ipython1.kernel.controller.process
    import ipython1.kernel.host.certificates
    import ipython1.kernel.host.logs
    import ipython1.kernel.scripts.options  # noqa: F401


def run(config: Any) -> int:
    """Run a controller with ``config``, a ``ControllerConfig``; for :func:`main` and for processes forked
    from a warm one."""
    from twisted.internet import reactor as installed_reactor
    from twisted.internet.defer import Deferred, ensureDeferred
    from twisted.logger import Logger
    from twisted.python.failure import Failure

    from ipython1.daemon.ready import announce_ready
    from ipython1.kernel.basics.error import KernelError
    from ipython1.kernel.controller.process import RunningController, start_controller
    from ipython1.kernel.host import logs
    from ipython1.kernel.host.steadyclock import keep_steady

    reactor: Any = installed_reactor
    keep_steady(reactor)
    log = Logger()
    config.files.dirs.prepare()
    logs.start_logging(config.log_options("ipcontroller"))
    status = 0
    stop: Deferred[None] = Deferred()

    stopping = False

    def request_stop(*_: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            # A client that asked for it still gets its answer.
            reactor.callLater(0.05, stop.callback, None)

    async def live() -> None:
        running: RunningController = await start_controller(config, reactor, request_stop)
        running.service.startService()
        # Where a nanny waits this would go to the log, and be taken for the last words of a controller that is killed.
        if not announce_ready(f"port {running.port}"):
            print(f"ipcontroller: listening on port {running.port}; FURL files:", file=sys.stdout)
            for name, path in running.furl_files.items():
                print(f"  {name}: {path}", file=sys.stdout)
            sys.stdout.flush()
        await stop
        await running.service.stopService()
        await running.stop()

    def failed(failure: Failure) -> None:
        nonlocal status
        status = 1
        if failure.check(KernelError):
            print(f"ipcontroller: {failure.value}", file=sys.stderr)
        else:
            log.failure("the controller failed", failure)
            print(
                f"ipcontroller: failed unexpectedly, see the log: {failure.getErrorMessage()}",
                file=sys.stderr,
            )

    def begin() -> None:
        ensureDeferred(live()).addErrback(failed).addBoth(lambda _: reactor.stop())

    def on_signal(*_: object) -> None:
        reactor.callFromThread(request_stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    return status


if __name__ == "__main__":
    sys.exit(main())
