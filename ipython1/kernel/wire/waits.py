"""What code in an engine's main thread waits for, as the engine tells its controller."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.frames import Buffer

MOST_ITEMS: Final = 500
"""Tasks, and commands, that one wait names."""

Run: TypeAlias = tuple[str, int]
"""What an engine runs: ``("", task id)``, or the uuid (hexadecimal) of a command's client and the command's number."""

CommandItem: TypeAlias = tuple[int, tuple[int, ...]]
"""The number of a command, 0 if it has not been sent, and the engines that may run it."""


class Needs(NamedTuple):
    """What a wait needs to end.

    :ivar client: the uuid of the client that submitted or fetches it, in hexadecimal.
    :ivar every: whether all of the items must end, or one of them is enough.
    :ivar tasks: ids of tasks.
    :ivar commands: commands of the client.
    :ivar more: whether any other task of the client is as good, as there are too many to name.
    """

    client: str
    every: bool = True
    tasks: tuple[int, ...] = ()
    commands: tuple[CommandItem, ...] = ()
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.tasks or self.commands or self.more)

    def limited(self) -> Needs:
        """Return what of it is told: the first items."""
        if len(self.tasks) <= MOST_ITEMS and len(self.commands) <= MOST_ITEMS:
            return self
        tasks, commands = self.tasks[:MOST_ITEMS], self.commands[:MOST_ITEMS]
        return Needs(self.client, self.every, tasks, commands, True)


def pack_wait(run: Run, needs: Needs) -> bytes:
    """Pack the payload of a ``WAITING`` frame."""
    told = (run, needs.client, needs.every, needs.tasks, needs.commands, needs.more)
    return messages.pack_json(told)


def unpack_wait(payload: Buffer) -> tuple[Run, Needs]:
    """Unpack the payload of a ``WAITING`` frame.

    :raises ProtocolError: if it cannot be understood.
    """
    told: Any = messages.unpack_json(payload)
    try:
        (kind, number), client, every, tasks, commands, more = told
        items = tuple((int(each), tuple(map(int, ids))) for each, ids in commands)
        needs = Needs(str(client), bool(every), tuple(map(int, tasks)), items, bool(more))
        bytes.fromhex(needs.client), bytes.fromhex(str(kind))
        return (str(kind), int(number)), needs
    except (TypeError, ValueError) as problem:
        raise ProtocolError(f"an engine's wait cannot be understood: {problem}") from None
