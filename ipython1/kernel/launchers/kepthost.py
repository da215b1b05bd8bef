"""A host that is kept logged in: the shell around :mod:`ipython1.kernel.launchers.hostlogin`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.daemon.link import NannyLink
from ipython1.kernel.basics.error import ClusterError, ConnectionError
from ipython1.kernel.launchers.clusterfile import HostSpec
from ipython1.kernel.launchers.hostlogin import (
    HostLogin,
    HostState,
    Instruction,
    LogIn,
    TellAway,
    TellLate,
    TellThere,
    TellUnusable,
    Trouble,
    WakeAt,
)
from ipython1.kernel.launchers.interfaces import Context, HostInfo
from ipython1.kernel.launchers.loginslots import LoginSlots, Slot
from ipython1.kernel.launchers.sshhost import Listener, LoginFailed, SshConnection
from ipython1.kernel.launchers.tunnel import HostTunnel

SLOT_LIMIT = 0.5
"""Seconds without an answer after which a login does not keep others from beginning."""


class HostsOwner(Protocol):
    """Is told what becomes of hosts."""

    async def set_up(self, name: str, link: NannyLink) -> None:
        """Copy what the host needs to start processes.

        :raises ClusterError: if the host cannot be used.
        """

    def host_there(self, name: str, link: NannyLink) -> None:
        """The host can start processes."""

    def host_late(self, name: str) -> None:
        """The host has not answered for some seconds."""

    def host_away(self, name: str, lost: bool) -> None:
        """The host is not there and is tried again; ``lost`` if it was there."""

    def host_unusable(self, name: str, lost: bool) -> None:
        """The host is not tried again by itself."""

    def host_changed(self, name: str) -> None:
        """What :meth:`KeptHost.info` returns has changed."""


class KeptHost:
    """One host.

    :param context: of the launcher.
    :param slots: limits the number of simultaneous logins.
    :param owner: is told what becomes of it.
    :param tunnel: what else its connection is to carry; None for nothing.
    :ivar login: its state.
    :ivar silent: for how many seconds it has not answered, if that is long; else 0.
    """

    log: Logger = Logger()

    def __init__(
        self,
        spec: HostSpec,
        context: Context,
        slots: LoginSlots,
        owner: HostsOwner,
        tunnel: HostTunnel | None = None,
    ) -> None:
        self.spec = spec
        self.login: HostLogin = HostLogin(spec.host)
        self.silent: float = 0.0
        self.tunnel = tunnel
        self._context = context
        self._reactor = context.reactor
        self._slots = slots
        self._owner = owner
        self._connection: SshConnection | None = None
        self._waiting_for_slot: Deferred[Slot] | None = None
        self._calls: set[IDelayedCall] = set()

    @property
    def name(self) -> str:
        """How ``ssh`` knows it."""
        return self.spec.host

    @property
    def state(self) -> HostState:
        """See :mod:`ipython1.kernel.launchers.hostlogin`."""
        return self.login.state

    @property
    def link(self) -> NannyLink:
        """The link to its nanny.

        :raises ClusterError: if it is not there.
        """
        if self._connection is None or self.state is not HostState.THERE:
            raise ClusterError(
                f"{self.login.reason or f'{self.name} has not answered yet'}; it is tried again"
                if self.state is not HostState.UNUSABLE
                else self.login.reason
            )
        return self._connection.link

    def want(self, *, asks: bool = False) -> None:
        """Log in if it is not there; returns at once.

        :param asks: whether there is a user who can be asked for a password.
        """
        self._follow(self.login.want(asks=asks))

    def doing(self) -> str:
        """Return what is waited for, in a few words."""
        login = self.login
        if self.state is HostState.SET_UP:
            return "logged in, files are being copied"
        if self.state is not HostState.LOGGING_IN:
            return login.reason.removeprefix(f"{self.name}: ") or self.state.value
        if login.due:
            return "too many logins at a time, its turn comes"
        stage = self._connection.stage if self._connection is not None else ""
        return {
            "": "its turn to log in comes",
            "connecting": "no answer yet",
            "answered": "it has answered, and has not accepted the login yet",
            "authenticated": "logged in, Python starts there",
        }[stage]

    def info(self, engines: tuple[int, ...]) -> HostInfo:
        """Return what is known of it.

        :param engines: the ids of its engines.
        """
        state, login = self.state, self.login
        again = login.due - self._reactor.seconds() if login.due else 0.0
        named = state.value if state is not HostState.SET_UP else HostState.LOGGING_IN.value
        if state is HostState.THERE:
            reason = ""
        elif state is HostState.LOGGING_IN and not login.reason:
            reason = self.doing()
        else:
            reason = login.reason
        return HostInfo(
            name=self.name,
            state="silent" if self.silent and state is HostState.THERE else named,
            reason=reason,
            attempts=login.attempts,
            retry_in=round(max(0.0, again), 1),
            silent=round(self.silent, 1),
            engines=engines,
        )

    async def close(self, grace: float) -> None:
        """Stop everything on it; a second call with a shorter ``grace`` speeds this up."""
        self.login.close()
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()
        if self._waiting_for_slot is not None:
            self._waiting_for_slot.cancel()
        if self._connection is not None:
            await self._connection.close(grace)

    # -- carrying out

    def _follow(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case LogIn():
                    work = Deferred.fromCoroutine(self._log_in(instruction.asks))
                    work.addErrback(self._went_wrong)
                case WakeAt():
                    self._call_at(instruction.time, self._tick)
                case TellLate():
                    self._owner.host_late(self.name)
                case TellThere():
                    assert self._connection is not None
                    self._owner.host_there(self.name, self._connection.link)
                case TellAway():
                    self._owner.host_away(self.name, instruction.lost)
                case TellUnusable():
                    self._owner.host_unusable(self.name, instruction.lost)
        self._owner.host_changed(self.name)

    def _went_wrong(self, failure: Failure) -> None:
        """A login could not even begin, as when there are too many open files."""
        self.log.failure("a login failed", failure)
        said = f"{self.name}: {failure.getErrorMessage()}"
        self._follow(self.login.failed(said, Trouble.PASSING, self._reactor.seconds()))

    def _tick(self) -> None:
        self._follow(self.login.tick(self._reactor.seconds()))

    def _call_at(self, time: float, call: Callable[[], object]) -> None:
        holder: list[IDelayedCall] = []

        def wake() -> None:
            self._calls.discard(holder[0])
            call()

        delay = max(0.0, time - self._reactor.seconds())
        holder.append(self._reactor.callLater(delay, wake))
        self._calls.add(holder[0])

    async def _log_in(self, asks: bool) -> None:
        self._connection = None
        command = self._context.config.ssh.command
        if self.tunnel is not None:
            command = await self.tunnel.command(command)
            if self.state is not HostState.LOGGING_IN:
                return
        self._waiting_for_slot = self._slots.acquire()
        try:
            slot = await self._waiting_for_slot
        except CancelledError:
            return
        finally:
            self._waiting_for_slot = None
        try:
            await self._connect(command, asks, slot)
        except LoginFailed as problem:
            if problem.trouble is Trouble.BUSY:
                self._slots.refused()
            now = self._reactor.seconds()
            slot.release()
            self._follow(self.login.failed(str(problem), problem.trouble, now))
        finally:
            slot.release()

    async def _connect(self, command: tuple[str, ...], asks: bool, slot: Slot) -> None:
        def answered() -> None:
            self._follow(self.login.answered())

        def lost(reason: str) -> None:
            if self._connection is connection:
                self.silent = 0.0
                said = f"lost the connection to {self.name}: {reason}"
                self._follow(self.login.lost(said, self._reactor.seconds()))

        def authenticated() -> None:
            self._slots.accepted()
            slot.release()

        config = self._context.config
        on_event = self._context.supervisor.on_event
        listener = Listener(on_event, lost, answered, authenticated, on_silence=self._heard)
        if self.tunnel is not None:
            listener = replace(listener, on_words=self.tunnel.heard)
        connection = SshConnection(self.spec, command, self._reactor, listener, asks)
        self._connection = connection
        self._follow(self.login.began(self._reactor.seconds()))
        self._call_at(
            self._reactor.seconds() + SLOT_LIMIT,
            lambda: slot.release() if connection.stage == "connecting" else None,
        )
        link = await connection.open(config.start_timeout)
        slot.release()
        self._follow(self.login.logged_in(self._reactor.seconds()))
        try:
            await self._owner.set_up(self.name, link)
        except ConnectionError:
            return  # which was told already
        except ClusterError as problem:
            connection.abandon()
            raise LoginFailed(str(problem), Trouble.LASTING) from None
        if self._connection is connection:
            self._follow(self.login.ready())

    def _heard(self, seconds: float) -> None:
        before, self.silent = self.silent, seconds
        if seconds and not before:
            self._context.observer.say(
                f"{self.name} has not answered for {seconds:.0f} s; its engines may be out of reach"
            )
        elif before and not seconds:
            self._context.observer.say(f"{self.name} answers again")
        if bool(before) is not bool(seconds):
            self._owner.host_changed(self.name)
