"""A custom style of parallelism: a race.

The same code runs on several engines, the first one that succeeds wins, and the others are stopped at once.  Use it
for searches, and when you cannot know in advance which of several algorithms is the fastest.

This is the controller's side: an interface to the controller, its adapter, and its Foolscap face.  ``raceclient`` is
the users' side.  Nothing here unpickles anything, and nothing here may: the controller does not look into what
engines and clients send.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.components import registerAdapter
from zope.interface import implementer

from ipython1.kernel import messages
from ipython1.kernel.bulk import BulkRelay
from ipython1.kernel.controllerservice import IControllerBase
from ipython1.kernel.engineservice import Outcome
from ipython1.kernel.error import QueueCleared
from ipython1.kernel.frames import Buffer
from ipython1.kernel.gate import Session
from ipython1.kernel.multiengine import IMultiEngine, MultiEngine
from ipython1.kernel.multienginefc import IFCSessions, MultiEngineSession

ROLE = "race"
"""The name of the interface in the ini file, and what its clients register as."""


class IRace(IMultiEngine):
    """A MultiEngine in which only the first success counts."""


@implementer(IRace)
class Race(MultiEngine):
    """Adapts a controller to :class:`IRace`."""

    def submit(
        self,
        origin: bytes,
        number: int,
        submission: messages.Submit,
        payload: Buffer,
        relay: BulkRelay | None,
        on_outcome: Callable[[Outcome], None],
        on_output: Callable[[int, str, bytes], None],
    ) -> list[int]:
        winner: int | None = None

        def finished(outcome: Outcome) -> None:
            nonlocal winner
            if winner is not None:
                if outcome.relay is not None:
                    outcome.relay.refuse("it came too late")
                late = QueueCleared(f"engine {winner} was first")
                on_outcome(Outcome.refused(outcome.engine_id, late))
                return
            if outcome.status == messages.OK:
                winner = outcome.engine_id
            on_outcome(outcome)
            if winner is not None:
                # Remove the command from queues where it waits, and interrupt it where it runs.
                self.abort(origin, number)

        return super().submit(origin, number, submission, payload, relay, finished, on_output)


class IFCRace(IFCSessions):
    """The face of :class:`IRace`."""


@implementer(IFCRace)
class FCRace:
    """Adapts an :class:`IRace` to sessions with clients, which are sessions of MultiEngine."""

    def __init__(self, race: Race) -> None:
        self.multiengine = race

    def accept(self, hello: messages.Hello) -> Session:
        hello.check_role(ROLE)
        hello.check_versions("the client")
        return MultiEngineSession(self, hello)


registerAdapter(Race, IControllerBase, IRace)
registerAdapter(FCRace, IRace, IFCRace)
