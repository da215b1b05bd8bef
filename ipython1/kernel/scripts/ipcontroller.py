# PYTHON_ARGCOMPLETE_OK
"""``ipcontroller``: start a controller; ``ipcontroller furl``: who can reach it."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from ipython1.kernel.scripts.clusterwords import COMPLETION
from ipython1.system import PAUSE

YOUNG: Final = 50_000
"""Objects that are made before the garbage collector looks at them.  A controller makes some for each task and result,
and lets go of nearly all of them without it; the usual 700 cost a tenth of its time."""


CLEANING_DELAY: Final = 1.0
"""Seconds after the start when logs that are too old are removed; engines are up then."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a controller until it is told to end, or do what ``furl`` asks for.

    :returns: the exit status: 0, or 1 for a failure at run time.
    """
    if COMPLETION in os.environ:
        from ipython1.kernel.scripts.completion import complete

        complete("ipcontroller")
    from ipython1.daemon.firstprocess import leave_first_place
    from ipython1.daemon.streams import open_standard_streams

    open_standard_streams()
    leave_first_place()
    from ipython1.kernel.basics.error import KernelError
    from ipython1.kernel.scripts.controlleroptions import parse_controller

    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if words[:1] == ["furl"]:
            from ipython1.kernel.scripts import furlactions

            return furlactions.main(words[1:])
        return run(parse_controller(words))
    except KernelError as problem:
        print(f"ipcontroller: {problem}", file=sys.stderr)
        return 1


def preload() -> None:
    """Import what a controller will need, in the process that it is forked from."""
    import twisted.internet.reactor  # noqa: F401

    import ipython1.kernel.controller.multienginefc
    import ipython1.kernel.controller.process
    import ipython1.kernel.host.logs
    import ipython1.kernel.scripts.controlleroptions  # noqa: F401
    from ipython1.kernel.tub import tubs

    tubs.preload()


def run(config: Any) -> int:
    """Run a controller with ``config``, a ``ControllerConfig``; for :func:`main` and for processes forked
    from a warm one.

    :returns: the exit status.
    """
    from twisted.internet import reactor as installed_reactor

    from ipython1.daemon.titles import process_title, set_title
    from ipython1.kernel.host import logs
    from ipython1.kernel.host.openfiles import raise_limit
    from ipython1.kernel.host.steadyclock import keep_steady
    from ipython1.kernel.host.turns import take_turns

    raise_limit()
    gc.freeze()
    gc.set_threshold(YOUNG)
    reactor: Any = installed_reactor
    keep_steady(reactor)
    take_turns(reactor)
    config.files.dirs.prepare()
    logs.start_logging(config.log_options("ipcontroller"))
    set_title(process_title("ipcontroller", config.cluster_id))
    process = ControllerProcess(config, reactor)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: process.ordered(number))
    if PAUSE in signal.valid_signals():
        signal.signal(PAUSE, lambda *_: process.ordered(PAUSE))
    reactor.callWhenRunning(process.begin)
    reactor.run(installSignalHandlers=False)
    return process.status


class ControllerProcess:
    """A controller from its start to its end.

    :ivar status: the exit status.
    """

    def __init__(self, config: Any, reactor: Any) -> None:
        from twisted.internet.defer import Deferred

        self.status: int = 0
        self._config = config
        self._reactor = reactor
        self._stopping = False
        self._goodbye = ""
        self._stop: Deferred[None] = Deferred()

    def begin(self) -> None:
        """Start the controller; the reactor ends with it."""
        from twisted.internet.defer import Deferred

        living = Deferred.fromCoroutine(self._live())
        living.addErrback(self._failed).addBoth(lambda _: self._reactor.stop())

    def request_stop(self, goodbye: bool = True) -> None:
        """End the controller; a client that asked for it still gets its answer.

        :param goodbye: whether clients are told not to wait, as no controller will be started again soon.
        """
        if not self._stopping:
            self._stopping = True
            self._goodbye = "the controller was stopped" if goodbye else ""
            self._reactor.callLater(0.05, self._stop.callback, None)

    def ordered(self, number: int) -> None:
        """End the controller at a signal, or at what stands for it; call it from any thread."""
        self._reactor.callFromThread(self.request_stop, goodbye=number != PAUSE)

    async def _live(self) -> None:
        from twisted.internet.task import LoopingCall

        from ipython1.daemon.ready import BEAT_INTERVAL, take_pipe
        from ipython1.kernel.controller.process import start_controller
        from ipython1.kernel.host.byhand import CONTROLLER, Note, is_by_hand

        pipe = take_pipe()
        pipe.on_order(self.ordered)
        beats = LoopingCall(pipe.beat)
        beats.clock = self._reactor
        beats.start(BEAT_INTERVAL)
        running = await start_controller(
            self._config, self._reactor, self.request_stop, self._upstream_refuses
        )
        running.service.startService()
        note = None
        if is_by_hand(pipe.awaited):
            note = Note(self._config.files, CONTROLLER, self._config.log_options(CONTROLLER).path)
            note.write()
        # Where a nanny waits this would go to the log, and be taken for the last words of a controller that is killed.
        pipe.ready(f"port {running.port}")
        if not pipe.awaited:
            print(f"ipcontroller: listening on port {running.port}; FURL files:", file=sys.stdout)
            for name, path in running.furl_files.items():
                print(f"  {name}: {path}", file=sys.stdout)
            sys.stdout.flush()
            if running.service.journal.lost:
                print(f"ipcontroller: {running.service.journal.lost}", file=sys.stderr)
        cleaning = self._reactor.callLater(CLEANING_DELAY, self._remove_old_logs)
        await self._stop
        if cleaning.active():
            cleaning.cancel()
        await running.service.stopService()
        if note is not None:
            # Before the lock is released: another one may start then.
            note.remove()
        await running.stop(self._goodbye)

    def _remove_old_logs(self) -> None:
        from ipython1.kernel.host.oldlogs import remove_old_logs

        # A directory may be slow, on a server.
        directory, days = self._config.files.dirs.log, self._config.log_days
        self._reactor.callInThread(remove_old_logs, directory, days)

    def _upstream_refuses(self, problem: Any) -> None:
        """It would never become a gateway, so it is not to look like one."""
        self.status = 1
        print(f"ipcontroller: it cannot be a gateway: {problem}", file=sys.stderr)
        self.request_stop()

    def _failed(self, failure: Any) -> None:
        from twisted.logger import Logger

        from ipython1.kernel.basics.error import KernelError

        self.status = 1
        if failure.check(KernelError):
            print(f"ipcontroller: {failure.value}", file=sys.stderr)
            return
        Logger().failure("the controller failed", failure)
        print(
            f"ipcontroller: failed unexpectedly, see the log: {failure.getErrorMessage()}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
