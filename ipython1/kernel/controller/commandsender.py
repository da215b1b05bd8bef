"""Sends an engine its commands, and takes their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

from twisted.internet.defer import Deferred

from ipython1.kernel.basics.error import (
    EngineDied,
    KernelError,
    NotStarted,
    QueueCleared,
    to_wire,
)
from ipython1.kernel.controller.command import KEPT_HERE, Command, Outcome, describe
from ipython1.kernel.controller.commandqueue import CommandQueue, Key
from ipython1.kernel.controller.confirmations import Confirmations
from ipython1.kernel.controller.engineoutcomes import CommandWatch, NoWatch, unpack_outcome
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import unpack_reference
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import Link
from ipython1.kernel.wire.payload import check_inline

A_STRANGER: Final = "(a command of a client that has not come back)"
"""What is shown of a command from before the controller's restart."""


@lru_cache(maxsize=16)
def _confirm_frame(origin: bytes, first: int, count: int) -> bytes:
    """The same for all engines that have had the same commands."""
    return frames.pack_frame(frames.CONFIRM, first, messages.pack_confirm(origin, count))


class CommandSender:
    """One engine's commands: its queue, and what goes to the engine and comes from it.

    The queue decides what is sent and when; see :class:`CommandQueue`.

    :param who: names the engine and its process.
    :param on_turn: called when a command is sent, and when the engine is done with one.
    :ivar watch: is told of what is sent.
    """

    def __init__(
        self,
        engine_id: int,
        who: Callable[[], str],
        confirmations: Confirmations,
        may_go: Callable[[Key], bool] = lambda key: True,
        may_claim: Callable[[Key], bool] = lambda key: False,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._id = engine_id
        self._who = who
        self._confirmations = confirmations
        self._may_claim = may_claim
        self._link: Link | None = None
        self._queue: CommandQueue[Command] = CommandQueue(may_go, may_claim)
        self._takers: dict[Key, Callable[[Outcome], None]] = {}
        self._confirms: list[Key] = []
        self._hungry = False
        self._met = False
        self._called_off: dict[Key, tuple[str, int | None]] = {}
        self._held = False
        self._waiting_for_end: dict[Key, list[Deferred[None]]] = {}
        self._on_turn = on_turn
        self.watch: CommandWatch = NoWatch()

    # -- the link

    def attach(self, link: Link, holds: messages.Holds) -> None:
        """The engine is reached through ``link``, and has this from before."""
        self._link = link
        self._met = True
        result = self._queue.back(_keys(holds.commands), _keys(holds.finished))
        for command in result.fetch:
            if not command.ended:
                self._send(frames.RECLAIM, command.key)
        self._confirms += result.unwanted
        self._call_off()
        if result.again:
            self._remove_unwanted()
        self._confirm_later()
        self.go_on()
        self._on_turn()

    def go_away(self) -> None:
        """The engine's link is lost, and it may come back."""
        self._link = None
        self._hungry = True
        self._takers.clear()
        self._confirms.clear()
        self._confirmations.done(self)
        running = self._queue.running
        for command in (*self._queue.waiting, *([] if running is None else [running])):
            command.transfer = None
            command.data.forget(self)

    def _send(self, kind: int, key: Key) -> None:
        """Send a frame about one command."""
        if self._link is not None:
            self._link.send(kind, key[1], key[0])

    # -- commands

    def submit(self, command: Command) -> None:
        """Queue a command."""
        if self._queue.add(command):
            self._send(frames.RECLAIM, command.key)
        if not command.ready or command.data.size > KEPT_HERE:
            self._hungry = True
        self.go_on()
        self._on_turn()

    def hold(self) -> None:
        """Send nothing before :meth:`release`: a later controller would not know this engine yet."""
        self._held = True

    def release(self) -> None:
        """The engine is in the journal."""
        self._held = False
        self.go_on()

    def go_on(self) -> None:
        """Have data come whose command's turn is near, and send what can be sent."""
        link = self._link
        if link is None or self._held:
            return
        if self._hungry:
            self._feed()
        command = self._queue.next_to_send()
        if command is None:
            return
        if self._confirms:
            self.send_confirms()
        self.watch.began(command)
        data = command.data
        if command.transfer is not None:
            link.send_reference(frames.COMMAND, command.number, command.meta(), command.transfer)
        elif data.size <= KEPT_HERE:
            frame = command.frame()
            link.send_packed([frame], len(frame))
        else:
            assert data.payload is not None
            link.send(frames.COMMAND, command.number, command.meta(), data.payload)

    def _feed(self) -> None:
        near = self._queue.near()
        self._hungry = bool(self._queue.waiting)
        for command in near:
            command.data.near = True
            if not command.ready:
                command.data.request(self, partial(self._take_data, command))

    def _take_data(self, command: Command, relay: BulkRelay | None) -> None:
        if self._link is not None and relay is not None:
            over = partial(self._data_over, command, relay, self._link)
            command.transfer = self._link.add_sink(relay, over)
        self.go_on()

    def _data_over(
        self, command: Command, relay: BulkRelay, link: Link, reason: str | None
    ) -> None:
        """The engine has all of a command's data, or will not have it."""
        if relay.failure is None or command.transfer is None or self._link is not link:
            return
        if not self._queue.has(command.key):
            # It stopped coming before the command was sent, and the engine waits for its name.
            link.take_back(command.transfer)
            command.transfer = None
            self._hungry = True
            link.call_soon(self.go_on)

    def _call_off(self) -> None:
        """The engine has said which of the commands it has that were to be removed before."""
        called_off, self._called_off = self._called_off, {}
        for key, (reason, otherwise) in called_off.items():
            if not self._queue.has(key):
                self.remove_one(key, reason)
            elif otherwise is not None:
                self._send(otherwise, key)

    def remove(
        self, wanted: Callable[[Command], bool], reason: str, otherwise: int | None = None
    ) -> int:
        """Remove the waiting commands that are ``wanted``; each fails with ``QueueCleared``.

        :param otherwise: the kind of the frame to send about one that turns out to have been sent before the
            controller's restart.
        """
        if not self._met:
            # An earlier controller may have sent them, and the engine has not said yet what it has.
            chosen = [command.key for command in self._queue.waiting if wanted(command)]
            self._called_off.update((key, (reason, otherwise)) for key in chosen)
            return len(chosen)
        removed = self._queue.remove(wanted)
        for command in removed:
            self._drop_data(command)
            problem = QueueCleared(f"{command.method}: {reason}")
            command.end(Outcome.refused(self._id, problem))
        if removed:
            self.watch.turn()
            self.go_on()
        return len(removed)

    def remove_one(self, key: Key, reason: str, otherwise: int | None = None) -> int:
        """Remove the command ``key`` if it waits; see :meth:`remove`."""
        return self.remove(lambda command: command.key == key, reason, otherwise)

    def forget(self, key: Key) -> None:
        """Remove a waiting command that has run already, as its client says."""
        for command in self._queue.remove(lambda each: each.key == key):
            self._drop_data(command)

    def _drop_data(self, command: Command) -> None:
        command.data.forget(self)
        transfer, command.transfer = command.transfer, None
        if transfer is not None and self._link is not None:
            self._link.take_back(transfer)

    def take_back(self, key: Key) -> int:
        """Remove the command ``key`` if it has not begun; returns how many are removed at once.

        The engine is asked to give it back if it has been sent, as it may wait there for the end of a task.
        """
        if self._queue.has(key):
            self._send(frames.RECALL, key)
        return self.remove_one(key, "it was taken back", frames.RECALL)

    # -- outcomes

    def outcome_received(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        """The engine says how a command ended."""
        # All of it is understood before the command is taken out, so that garbage leaves it to fail with its engine.
        origin, status, error, note = unpack_outcome(bytes(meta))
        key = (origin, number)
        if status == messages.UNRECEIVED:
            self._unreceived(key)
            return
        if not flags & frames.BULK and len(payload):
            check_inline(payload)
        queue = self._queue
        command = queue.running
        is_running = command is not None and command.key == key
        if not is_running:
            command = queue.ended(key)
        taker = self._takers.pop(key, None) if self._takers else None
        wanted = taker is not None or (command is not None and not command.ended)
        relay = None
        if flags & frames.BULK:
            relay, payload = self._relay(payload, wanted), b""
        if is_running or queue.has(key):
            if is_running and command is not None:
                self.watch.ended(command, status, error, note)
            queue.finished(key)
            # The engine is free before anybody hears of the outcome, so that whoever reacts finds the queue as it is.
            self.go_on()
            self._on_turn()
        if wanted:
            outcome = Outcome(self._id, status, payload, relay, error)
            if taker is not None:
                taker(outcome)
            elif command is not None:
                self._first_outcome(command, outcome)
        elif command is None and not self._may_claim(key):
            queue.forget_strangers(lambda each: each == key)
            self._confirms.append(key)
            self._confirm_later()
        if self._waiting_for_end:
            self._over(key)

    def _relay(self, payload: Buffer, wanted: bool) -> BulkRelay | None:
        """The transfer that a frame names, unless it is refused because nobody wants it."""
        assert self._link is not None
        reference = unpack_reference(payload)
        if wanted:
            return self._link.bulk.relay(reference)
        self._link.bulk.refuse_relay(reference, "nobody waits for it")
        return None

    def _first_outcome(self, command: Command, outcome: Outcome) -> None:
        command.end(outcome)
        if not command.confirms:
            self.confirm(command.key)

    def _unreceived(self, key: Key) -> None:
        command = self._queue.unreceived(key)
        if command is not None:
            command.transfer = None
            self._hungry = True
            self._remove_unwanted()
            self.go_on()

    def _remove_unwanted(self) -> None:
        """Remove what is to be sent again and shall not begin any more."""
        self.remove(lambda command: command.data.unwanted, "its client is gone")

    def reclaim(self, key: Key, take: Callable[[Outcome], None]) -> bool:
        """Have the engine send an outcome once more; False if it cannot be asked now.

        :param take: gets the outcome; not called if the engine's link is lost before that.
        """
        if self._link is None or self._queue.ended(key) is None:
            return False
        self._takers[key] = take
        self._send(frames.RECLAIM, key)
        return True

    def has_ended(self, key: Key) -> bool:
        """Whether the engine has finished a command, and keeps its outcome."""
        return self._queue.ended(key) is not None

    def confirm(self, key: Key, at_once: bool = False) -> None:
        """An outcome is safe, or nobody wants it; the engine may forget it.

        :param at_once: whether it is worth a message of its own, as it is large.
        """
        if self._takers:
            self._takers.pop(key, None)
        if self._queue.confirmed(key) is not None and self._link is not None:
            self._confirms.append(key)
            if at_once:
                self.send_confirms()
            elif len(self._confirms) == 1:
                self._confirmations.ask(self)

    def forget_strangers(self, wanted: Callable[[Key], bool]) -> None:
        """Nobody will name these commands from before the restart."""
        self._confirms += self._queue.forget_strangers(wanted)
        self._confirm_later()

    def _confirm_later(self) -> None:
        if self._confirms:
            self._confirmations.ask(self)

    def send_confirms(self) -> None:
        """Tell the engine now which outcomes are safe."""
        confirms, self._confirms = self._confirms, []
        self._confirmations.done(self)
        by_origin: dict[bytes, list[int]] = {}
        for origin, number in confirms:
            by_origin.setdefault(origin, []).append(number)
        for origin, numbers in by_origin.items():
            for first, count in messages.runs_of(numbers):
                if self._link is not None:
                    frame = _confirm_frame(origin, first, count)
                    self._link.send_packed([frame], len(frame))

    def output_received(self, number: int, meta: bytes, payload: Buffer) -> None:
        """The engine's running command wrote something."""
        running = self._queue.running
        if running is None or running.stream is None:
            return
        if running.key == (meta[: messages.ORIGIN_SIZE], number):
            running.stream(meta[messages.ORIGIN_SIZE :].decode(), bytes(payload))

    # -- looking

    def is_running(self, key: Key) -> bool:
        """Whether the command ``key`` is what the engine has now."""
        return self._queue.has(key)

    def is_waiting(self, key: Key) -> bool:
        """Whether the command ``key`` is in the queue and has not been sent."""
        return any(command.key == key for command in self._queue.waiting)

    @property
    def running_key(self) -> Key | None:
        """What names the command that the engine has now."""
        return self._queue.running_key

    @property
    def running(self) -> Command | None:
        """The command that was sent and is not over."""
        return self._queue.running

    @property
    def queued(self) -> int:
        """How many commands have not been sent."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether there is any command that has not ended."""
        return bool(self._queue)

    def status(self) -> Mapping[str, Any]:
        """The command that runs, and those that wait, for people."""
        running = self._queue.running
        pending = None if running is None else _shown(running)
        if self._queue.strangers:
            pending = A_STRANGER
        return {"pending": pending, "queue": [_shown(command) for command in self._queue.waiting]}

    def when_over(self, key: Key) -> Deferred[None]:
        """A Deferred that fires when the engine is done with the running command ``key``, well or not."""
        over: Deferred[None] = Deferred()
        if self.is_running(key):
            self._waiting_for_end.setdefault(key, []).append(over)
        else:
            over.callback(None)
        return over

    def _over(self, key: Key) -> None:
        for waiting in self._waiting_for_end.pop(key, ()):
            waiting.callback(None)

    # -- the end

    def end(self) -> None:
        """The engine is gone for good."""
        self.go_away()
        self._confirmations.leave(self)

    def fail_all(self, reason: str) -> None:
        """Fail everything that a gone engine had."""
        strangers = self._queue.strangers
        self._called_off.clear()
        sent, waiting, ended = self._queue.drain()
        for command in sent:
            self.watch.ended(command, messages.REFUSED, to_wire(self.died(reason)))
        for command in (*sent, *(each for each in ended if not each.ended)):
            self._fail(command, self.died(reason))
        for command in waiting:
            not_started = NotStarted(f"{self._who()} died before it started this command: {reason}")
            # An earlier controller may have sent it: a client sends again what it has no outcome of.
            unsure = command.data.known_before or not self._met
            self._fail(command, self.died(reason) if unsure else not_started)
        for key in strangers:
            self._over(key)

    def _fail(self, command: Command, problem: KernelError) -> None:
        command.end(Outcome.refused(self._id, problem))
        self._over(command.key)

    def died(self, reason: str) -> KernelError:
        """What becomes of what the engine had begun."""
        return EngineDied(
            f"{self._who()} died: {reason}; its running command and its namespace are lost"
        )


def _shown(command: Command) -> str:
    return command.data.label or describe(command.method, command.data.payload)


def _keys(told: tuple[tuple[str, int], ...]) -> list[Key]:
    return [(bytes.fromhex(origin), number) for origin, number in told]
