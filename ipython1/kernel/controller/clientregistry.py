"""Who the clients are: those that are connected, those that may come back, and those that are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import ClientRow
from ipython1.kernel.controller.parties import Identity, Parties, Processes
from ipython1.kernel.controller.partyrows import STARTED_AGAIN, client_party, client_row
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.link import FrameLink

log: Logger = Logger()


class ClientRegistry:
    """The clients of all interfaces.

    :param grace: seconds that one waits for a client whose link is lost.
    """

    def __init__(
        self,
        clock: IReactorTime,
        grace: float,
        processes: Processes | None,
        journal: Journal,
    ) -> None:
        self._grace = grace
        self._journal = journal
        self._parties = Parties("client", clock, self._gone, processes)
        self._on_gone: list[Callable[[bytes], None]] = []
        self._links: dict[str, list[FrameLink]] = {}

    def came(self, hello: messages.Hello) -> bool:
        """A client registers; return whether it is known from before.

        :raises SecurityError: if it says that it is another client, and cannot prove it.
        """
        known = self._parties.check(hello.uuid, hello.secret) and self._parties.is_living(
            hello.uuid
        )
        for link in self.links(hello.uuid):
            # Its old connection is half open: the client itself knows better.
            link.abort("it has registered again")
        identity = self._parties.came(hello.uuid, hello.secret, hello.pid, hello.host, hello.label)
        self._journal.client_came(client_row(identity, time.time()))
        return known

    def attached(self, uuid: str, link: FrameLink) -> None:
        """A client is reached through ``link``."""
        self._links.setdefault(uuid, []).append(link)

    def left(self, uuid: str, link: FrameLink | None, reason: str) -> None:
        """A link of a client is lost.  It may have made another one already."""
        links = self._links.get(uuid, [])
        if link in links:
            links.remove(link)
        if not links:
            self._links.pop(uuid, None)
            self._parties.left(uuid, reason, self._grace)

    def goodbye(self, uuid: str, reason: str) -> None:
        """A client leaves for good."""
        self._links.pop(uuid, None)
        self._parties.goodbye(uuid, reason)

    def links(self, uuid: str) -> list[FrameLink]:
        """The links of a client."""
        return list(self._links.get(uuid, ()))

    def say_goodbye(self, reason: str) -> None:
        """Tell all clients that this controller ends on purpose, so that they do not wait for it."""
        self._tell_all(frames.GOODBYE, reason.encode())

    def warn(self, lines: Sequence[str]) -> None:
        """Tell all clients what is wrong with this controller now."""
        self._tell_all(frames.WARNINGS, messages.pack_json(list(lines)))

    def _tell_all(self, kind: int, payload: bytes) -> None:
        for links in list(self._links.values()):
            for link in list(links):
                link.send(kind, 0, b"", payload)
                link.flush()

    def expect(self, row: ClientRow) -> None:
        """Wait for a client that was there before the controller was started again."""
        self._parties.expect(client_party(row), STARTED_AGAIN, self._grace)

    def is_living(self, origin: bytes) -> bool:
        """Whether a client is connected, or may come back."""
        return self._parties.is_living(origin.hex())

    def is_connected(self, origin: bytes) -> bool:
        """Whether a client is connected."""
        return origin.hex() in self._links

    @property
    def connected(self) -> int:
        """How many clients are connected."""
        return len(self._links)

    def living(self) -> list[Identity]:
        """The clients that are connected, or may come back."""
        return self._parties.living()

    def prove(self, hello: messages.Hello) -> None:
        """:raises SecurityError: if a party says that it is one of these clients, and is not."""
        self._parties.check(hello.uuid, hello.secret)

    def identity(self, origin: bytes) -> Identity | None:
        """Who a client is, also for a while after it is gone."""
        return self._parties.identity(origin.hex())

    def on_client_gone_do(self, call: Callable[[bytes], None]) -> None:
        """Call ``call`` with the uuid (16 bytes) of each client that will not come back."""
        self._on_gone.append(call)

    def stop(self) -> None:
        """Wait for nobody any more; for the end of the process."""
        self._parties.stop()

    def _gone(self, uuid: str, reason: str) -> None:
        self._links.pop(uuid, None)
        for call in list(self._on_gone):
            try:
                call(bytes.fromhex(uuid))
            except Exception:
                log.failure("what is to be done when a client is gone failed")
        self._journal.client_gone(bytes.fromhex(uuid))
