"""Signs of life between ``ipcluster`` and this host's nanny, in both directions.

The nanny says so if ``ipcluster`` gives none (:mod:`ipython1.daemon.silence`); here, ``ipcluster`` finds out whether
the nanny gives any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall

from ipython1.daemon import osprocess
from ipython1.daemon.link import NannyLink
from ipython1.daemon.protocol import Hello
from ipython1.daemon.ready import BEAT_INTERVAL, SILENCE
from ipython1.kernel.clusters.presence import nanny_is_silent
from ipython1.kernel.clusters.status import ProcessInfo
from ipython1.kernel.host.processstate import ProcessState, process_state


class Heartbeat:
    """See the module's text.

    :param say: called with a line when the nanny has become silent, and when it is heard again.
    """

    def __init__(self, reactor: Any, nanny: NannyLink, say: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._nanny = nanny
        self._say = say
        self._hello: Hello | None = None
        self._silent = 0.0
        self._count = -1
        self._heard = self._turned = reactor.seconds()
        self._beats = LoopingCall(self._beat)
        self._beats.clock = reactor
        nanny.hello.addCallbacks(self._start, lambda failure: None)

    def stop(self) -> None:
        """The nanny is gone."""
        if self._beats.running:
            self._beats.stop()

    def info(self) -> ProcessInfo | None:
        """Return what is known of the nanny; None if it has not greeted yet."""
        if self._hello is None:
            return None
        pid, started = self._hello.pid, self._hello.started
        return ProcessInfo(
            state="running",
            pid=pid,
            pid_started=started,
            silent=round(self._silent, 1),
            stopped=process_state(pid, started) is ProcessState.STOPPED,
        )

    def let_go_on(self) -> None:
        """Continue the nanny if it is stopped, so that it can end everything."""
        if self._hello is not None and osprocess.is_alive(self._hello.pid, self._hello.started):
            osprocess.let_go_on(self._hello.pid)

    def _start(self, hello: Hello) -> Hello:
        self._hello = hello
        self._heard = self._turned = self._reactor.seconds()
        self._beats.start(BEAT_INTERVAL)
        return hello

    def _beat(self) -> None:
        now = self._reactor.seconds()
        # If this process was held itself, what came meanwhile has not been read yet.
        held = now - self._turned > 2 * BEAT_INTERVAL
        if held or self._nanny.heard != self._count:
            self._heard = now
        self._count, self._turned = self._nanny.heard, now
        before, self._silent = self._silent, 0.0
        if now - self._heard >= SILENCE:
            self._silent = now - self._heard
        self._nanny.keep_alive()
        info = self.info()
        if info is not None and self._silent and not before:
            self._say(nanny_is_silent(info.pid, self._silent, info.stopped))
        elif before and not self._silent:
            self._say("the nanny answers again")
