"""The functions that tasks refer to: each is kept once, as long as a client that sent it may have tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import FunctionRow


class _Function:
    __slots__ = ("clients", "data")

    def __init__(self, data: bytes, clients: Iterable[bytes] = ()) -> None:
        self.data = data
        self.clients = set(clients)


class TaskFunctions:
    """All functions, by digest.

    :param on_forgotten: called with the digest of a function that nobody needs any more.
    """

    def __init__(self, journal: Journal, on_forgotten: Callable[[bytes], None]) -> None:
        self._journal = journal
        self._on_forgotten = on_forgotten
        self._functions: dict[bytes, _Function] = {}

    def __len__(self) -> int:
        return len(self._functions)

    def restore(self, rows: Iterable[FunctionRow]) -> None:
        """Take over what an earlier controller had."""
        for row in rows:
            self._functions[row.digest] = _Function(row.data, row.clients)

    def add(self, client: bytes, digest: bytes, data: bytes) -> None:
        """A client sends a function."""
        function = self._functions.get(digest)
        if function is None:
            function = self._functions[digest] = _Function(data)
        self._add_client(client, digest, function)

    def _add_client(self, client: bytes, digest: bytes, function: _Function) -> None:
        if client not in function.clients:
            function.clients.add(client)
            self._journal.function_came(client, digest, function.data)

    def lacking(self, client: bytes, digests: Iterable[bytes]) -> tuple[bytes, ...]:
        """Of the functions that a client takes for known, those that are not; the others are its own from now on."""
        lacking = []
        for digest in digests:
            function = self._functions.get(digest)
            if function is None:
                lacking.append(digest)
            else:
                self._add_client(client, digest, function)
        return tuple(lacking)

    def forget(self, client: bytes, digest: bytes) -> None:
        """A client does not need a function any more."""
        function = self._functions.get(digest)
        if function is None or client not in function.clients:
            return
        function.clients.discard(client)
        self._journal.function_forgotten(client, digest)
        if not function.clients:
            del self._functions[digest]
            self._on_forgotten(digest)

    def forget_client(self, client: bytes) -> None:
        """A client is gone and has no tasks left."""
        for digest in [
            digest for digest, function in self._functions.items() if client in function.clients
        ]:
            self.forget(client, digest)

    def check(self, digests: Iterable[bytes]) -> None:
        """Check that functions are known.

        :raises ProtocolError: when one is not.
        """
        for digest in digests:
            if digest not in self._functions:
                raise ProtocolError("a task refers to a function that was not sent")

    def data(self, digest: bytes) -> bytes:
        """A function's bytes."""
        return self._functions[digest].data

    def get(self, digest: bytes) -> bytes | None:
        """A function's bytes; None if it is not kept."""
        function = self._functions.get(digest)
        return None if function is None else function.data
