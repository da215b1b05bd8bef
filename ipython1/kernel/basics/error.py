"""Every error of the kernel, in one place.

An error says who acted (the user, an engine, the controller, the network) and what to do next.  Errors that
the controller itself raises are sent as a name and a message (see :func:`to_wire` and :func:`from_wire`), never as
a pickle, so this module is safe to import anywhere.
"""

from __future__ import annotations

import builtins
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any

from ipython1.core.texts import clip, compress_ids, short_repr
from ipython1.kernel.basics.naming import publish

__all__ = [
    "BrokenEnginePool",
    "ClientClosed",
    "ClientError",
    "ClusterError",
    "CompositeError",
    "ConnectionError",
    "DependencyFailed",
    "EngineDied",
    "FileTimeoutError",
    "IdInUse",
    "InvalidClientID",
    "InvalidDeferredID",
    "InvalidEngineID",
    "InvalidProperty",
    "JournalError",
    "KernelError",
    "MessageSizeError",
    "NoController",
    "NoDefaultAddress",
    "NoEnginesRegistered",
    "NotAPendingResult",
    "NotDefined",
    "NotStarted",
    "OutOfMemory",
    "PartsMissing",
    "ProtocolError",
    "QueueCleared",
    "ResultAlreadyRetrieved",
    "ResultNotCompleted",
    "SecurityError",
    "SerializationError",
    "StopLocalExecution",
    "TaskAborted",
    "TaskRejectError",
    "TaskTimeout",
    "UnpickleableException",
    "VersionMismatch",
    "WaitInterrupted",
    "WaitsForever",
    "describe_exception",
    "from_wire",
    "to_wire",
]

MERGE_DISPLAY_ABOVE = 8
"""Identical errors are shown as one line if more engines than this failed; the data is never merged."""


MOST_LINES = 20
"""Failures of a map's items that the message shows; ``elist`` holds them all."""

_REPR_MOST = 4
"""The maximum number of exceptions in the ``repr`` of a :class:`CompositeError`."""

_REPR_WIDTH = 120
"""The maximum number of characters of each of them."""


@dataclass(frozen=True, slots=True)
class FailedItems:
    """The items of a map that one failure concerns.

    :ivar numbers: their numbers, from 0: of one item, or of all items that were lost together.
    :ivar shown: a short ``repr`` of the item if it is only one and known, else empty.
    :ivar line: the user's line that raised, like ``work.py, line 12: return 1 / x``; empty if there is none.
    """

    numbers: Sequence[int]
    shown: str = ""
    line: str = ""

    def __str__(self) -> str:
        numbers = clip(compress_ids(self.numbers), 60)
        text = f"item {numbers}" if len(self.numbers) == 1 else f"items {numbers or 'unknown'}"
        if self.shown:
            text += f": {self.shown}"
        return f"{text}; {self.line}" if self.line else text


class KernelError(Exception):
    """Base class of all errors that the kernel itself raises.

    IPython shows only the user's own lines of the traceback, not the kernel's.
    """

    def _render_traceback_(self) -> list[str]:
        from ipython1.kernel.basics.errordisplay import render_error

        return render_error(self)


class WaitInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped the wait for a call, but not the call; the message says what is still running and what to do."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class ConnectionError(KernelError, builtins.ConnectionError):
    """The connection to the controller failed or was lost; calls in progress were not completed."""


class NoController(ConnectionError):
    """No controller runs where one was looked for: there is no FURL file, or nothing listens at the address in it.

    At a prompt of IPython, it is shown in one line.
    """

    def _render_traceback_(self) -> list[str]:
        from ipython1.kernel.basics.errordisplay import render_in_one_line

        return render_in_one_line(self)


class ClientClosed(ConnectionError):
    """The client cannot be used any more, because its ``close`` was called."""


class SecurityError(KernelError):
    """A FURL, key or state file is missing, malformed, accessible to others, or was refused by the other side."""


class ProtocolError(KernelError):
    """The other side violated the protocol."""


class VersionMismatch(KernelError):
    """The two sides have incompatible Python versions (different minor versions) or protocol versions."""


class FileTimeoutError(KernelError, TimeoutError):
    """An expected file, such as a FURL file, did not appear in time."""


class ClientError(KernelError):
    """The client was used incorrectly."""


class NoDefaultAddress(ClientError, AttributeError):
    """There is no default controller address: no cluster is running, or its FURL file cannot be read."""


class InvalidEngineID(KernelError, LookupError):
    """A target is not the id of a registered engine."""


class NoEnginesRegistered(KernelError):
    """The call needs at least one engine, but none is registered."""


class IdInUse(KernelError):
    """An engine asked for an id that is already in use."""


class InvalidClientID(KernelError):
    """The controller does not know this client, or no longer does."""


class InvalidDeferredID(KernelError):
    """The result of this pending call was dropped (by ``flush``) and can no longer be fetched."""


class PartsMissing(KernelError):
    """An engine is gone that had a part of a scattered sequence, so what the others have is not the whole."""


class QueueCleared(KernelError):
    """The command was removed from its engine's queue before it started."""


class ResultNotCompleted(KernelError, TimeoutError):
    """The result is not available yet."""


class ResultAlreadyRetrieved(KernelError):
    """The result has already been fetched and is no longer kept."""


class SerializationError(KernelError):
    """An object could not be serialized or deserialized."""


class UnpickleableException(KernelError):
    """Replaces an engine's exception that could not be unpickled here; holds its name and message."""


class MessageSizeError(KernelError):
    """An object is larger than the configured limit."""

    @classmethod
    def too_large(cls, what: str, size: int, most: int, instead: str) -> MessageSizeError:
        """Return the error for a message to the controller that is too large.

        :param what: the thing that is too large, such as ``"the result"``.
        :param size: its size in bytes.
        :param most: the maximum that the controller accepts, in bytes.
        :param instead: an alternative for the user, other than files, such as ``"send it in parts"``.
        """
        return cls(
            f"{what} is {size} bytes, but the controller accepts at most {most} (max_message_size in "
            f"ipython1.kernel.ini); {instead} or use files"
        )


class OutOfMemory(KernelError, MemoryError):
    """An engine or client has no memory for an object that was sent to it."""


class JournalError(KernelError):
    """The controller's journal does not have what it should have: a file of it is damaged or gone."""


class NotAPendingResult(KernelError, TypeError):
    """A ``PendingResult`` was expected, but something else was passed."""


class InvalidProperty(KernelError, KeyError):
    """An engine has no property with this name."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class NotDefined(KernelError, NameError):
    """A name is not defined in an engine's namespace."""


class TaskAborted(KernelError):
    """The task was aborted by a client."""


class DependencyFailed(KernelError):
    """A task was not run, because a task that it was to run after did not come out as it had to.

    The message names the tasks between the two, and what became of the first.
    """


class TaskTimeout(KernelError, TimeoutError):
    """The task exceeded its ``timeout``."""


class TaskRejectError(KernelError):
    """Raised inside a task to move it to another engine without using up a retry."""


class StopLocalExecution(BaseException):
    """Leaves a ``with`` block whose body runs on the engines; raised by ``remote``, and caught at the block's end.

    It is not an ``Exception``, so that ``except Exception`` does not catch it on the way out.
    """


class EngineDied(KernelError):
    """An engine died or disconnected before it finished its work."""


class NotStarted(EngineDied):
    """An engine died or disconnected before it started this work; none of it ran, so another engine can do it."""


class WaitsForever(KernelError):
    """Code on an engine waited for work that could never end: every engine that could run it was held by such waits."""


class BrokenEnginePool(KernelError, BrokenExecutor):
    """An executor lost all its engines or its controller, or its initializer failed; the message says what happened."""


class ClusterError(ClientError):
    """A cluster could not be started, or a request to it failed."""


class CompositeError(KernelError):
    """One or more engines failed; holds each failure and what the other engines returned.

    :ivar message: the first line, ``one or more exceptions from call to method: <method>``.
    :ivar elist: a list with a tuple ``(exception type, exception, traceback text)`` for each failure, in order of
        engine id.
    :ivar engine_ids: the engine id of each failure (``None`` where no engine is involved), parallel to ``elist``.
    :ivar method: the name of the call that failed.
    :ivar results: a list of what the other engines returned, in order of engine id.  After a map, a list with one
        entry for each item, in the order of the items: its value, or the exception that it failed with.
    :ivar items: after a map, a list that says which items each failure in ``elist`` concerns: objects with
        ``numbers`` (a sequence of ints, from 0), ``shown`` (a short ``repr`` of the item) and ``line`` (the user's line
        that raised).  Empty after other calls.
    :ivar exceptions: the exception objects in ``elist``, as a tuple.
    :ivar shown: the engines' output that was already shown while they ran, a ``liveoutput.Shown``; for the display.

    ``__cause__`` is an ``ExceptionGroup`` of the engines' exceptions, each with its engine's traceback as a note.
    """

    def __init__(
        self,
        method: str,
        elist: Iterable[tuple[type[BaseException], BaseException, str]],
        engine_ids: Sequence[int | None] = (),
        results: Sequence[Any] = (),
        items: Sequence[FailedItems] = (),
    ) -> None:
        self.method = method
        self.message: str = f"one or more exceptions from call to method: {method}"
        self.elist: list[tuple[type[BaseException], BaseException, str]] = list(elist)
        self.engine_ids: list[int | None] = list(engine_ids) or [None] * len(self.elist)
        self.results: list[Any] = list(results)
        self.items: list[FailedItems] = list(items)
        self.shown: Any = None
        super().__init__(self.message)
        if self.elist:
            self.__cause__: BaseExceptionGroup[BaseException] = BaseExceptionGroup(
                self.message, [value for _, value, _ in self.elist]
            )

    def __repr__(self) -> str:
        """Return the message and the engines' exceptions, as the ``repr`` of an ``ExceptionGroup`` does."""
        shown = [clip(short_repr(value), _REPR_WIDTH) for value in self.exceptions[:_REPR_MOST]]
        more = len(self.exceptions) - len(shown)
        if more:
            shown.append(f"... {more} more")
        return f"{type(self).__name__}({self.message!r}, [{', '.join(shown)}])"

    def __reduce__(self) -> Any:
        return (type(self), (self.method, self.elist, self.engine_ids, self.results, self.items))

    @property
    def exceptions(self) -> tuple[BaseException, ...]:
        """The engines' exceptions, in the order of ``elist``, as a tuple."""
        return tuple(value for _, value, _ in self.elist)

    def _label(self, engine_ids: Sequence[int | None]) -> str:
        known = [engine_id for engine_id in engine_ids if engine_id is not None]
        return f"[{compress_ids(known)}:{self.method}]" if known else f"[{self.method}]"

    def summary_lines(self) -> list[str]:
        """Return one line per failed engine, or per failed item of a map; many identical errors share a line."""
        texts = [describe_exception(value) for value in self.exceptions]
        if not self.items:
            return [f"{label}: {text}" for label, text in self._merged(texts)]
        groups = self._groups(
            [(text, item.line) for text, item in zip(texts, self.items, strict=True)]
        )
        lines = [
            f"{self._label([self.engine_ids[each] for each in group])}: {texts[group[0]]} ({self._items_of(group)})"
            for group in groups[:MOST_LINES]
        ]
        left = sum(len(group) for group in groups[MOST_LINES:])
        return [*lines, f"... and {left} more; elist holds all failures"] if left else lines

    def tracebacks(self) -> list[tuple[str, str]]:
        """Return pairs of ``[id:method]`` and an engine's traceback; identical ones of many engines share a pair."""
        return self._merged([text.rstrip("\n") for _, _, text in self.elist])

    def _items_of(self, group: Sequence[int]) -> FailedItems:
        """Return the items that several failures concern together."""
        first = self.items[group[0]]
        if len(group) == 1:
            return first
        numbers = [number for each in group for number in self.items[each].numbers]
        return FailedItems(numbers, "", first.line)

    def _groups(self, keys: Sequence[Hashable]) -> list[list[int]]:
        """Group the indexes of many failures by equal keys; few stay separate."""
        if len(keys) <= MERGE_DISPLAY_ABOVE:
            return [[index] for index in range(len(keys))]
        merged: dict[Hashable, list[int]] = {}
        for index, key in enumerate(keys):
            merged.setdefault(key, []).append(index)
        return list(merged.values())

    def _merged(self, texts: Sequence[str]) -> list[tuple[str, str]]:
        return [
            (self._label([self.engine_ids[each] for each in group]), texts[group[0]])
            for group in self._groups(texts)
        ]

    def __str__(self) -> str:
        return "\n".join([self.message, *self.summary_lines()])

    def print_tracebacks(self, excid: int | None = None) -> None:
        """Print the engines' tracebacks.

        :param excid: the index of one failure in ``elist``; default all.
        :raises IndexError: if there is no failure with this index.
        """
        if excid is None:
            chosen = self.tracebacks()
        else:
            index = self._checked(excid)
            chosen = [(self._label([self.engine_ids[index]]), self.elist[index][2].rstrip("\n"))]
        for label, text in chosen:
            print(f"{label}:\n{text}\n")

    def raise_exception(self, excid: int = 0) -> None:
        """Raise one engine's exception.

        :param excid: the index of the failure in ``elist``.
        :raises IndexError: if there is no failure with this index.
        """
        __tracebackhide__ = True
        exception = self.elist[self._checked(excid)][1]
        before = exception.__context__
        try:
            raise exception.with_traceback(None)
        finally:
            # If this error is being handled, Python would show it as the context of the engine's exception.
            exception.__context__ = before

    def _render_traceback_(self) -> list[str]:
        from ipython1.kernel.basics.errordisplay import render_error

        return render_error(self, self.tracebacks)

    def _repr_html_(self) -> str:
        from ipython1.notebook.html import error_html

        return error_html(self)

    def _checked(self, excid: int) -> int:
        if not -len(self.elist) <= excid < len(self.elist):
            raise IndexError(
                f"there is no exception with index {excid}: there are {len(self.elist)}, numbered from 0"
            )
        return excid


def describe_exception(exception: BaseException) -> str:
    """Format an exception as ``Type: message``, even if its ``__str__`` fails."""
    name = type(exception).__name__
    try:
        if isinstance(exception, SyntaxError) and str(exception.filename).startswith("<ipython-"):
            # The "file" is what the user typed; IPython's made-up name for it differs between engines.
            return f"{name}: {exception.msg} (line {exception.lineno})"
        text = str(exception)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's own __str__ may do anything
        text = "<its message could not be shown>"
    return f"{name}: {text}" if text else name


_BUILTIN: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (TypeError, ValueError, IndexError)
}
_BY_NAME: dict[str, type[KernelError]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, KernelError) and value is not CompositeError
}


_MAX_MESSAGE = 4000
"""Longer messages are cut to this many characters, because their field on the wire is bounded."""


def to_wire(exception: BaseException) -> tuple[str, str]:
    """Return the name and message by which the controller sends one of its own errors."""
    name = type(exception).__name__
    if name in _BY_NAME or name in _BUILTIN:
        message = str(exception)
    else:
        name, message = "KernelError", describe_exception(exception)
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}..."
    return name, message


def from_wire(name: str, message: str) -> Exception:
    """Rebuild an exception from the result of :func:`to_wire`; unknown names become :class:`KernelError`."""
    if name in _BUILTIN:
        return _BUILTIN[name](message)
    return _BY_NAME.get(name, KernelError)(message)


_published = [globals()[name] for name in __all__]
publish("ipython1.kernel.error", *(each for each in _published if isinstance(each, type)))
