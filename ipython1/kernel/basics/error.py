"""Every error of the kernel, in one place.

An error says who acted (the user, an engine, the controller, the network) and what to do next.  Errors that
the controller itself produces travel as a name and a message (see :func:`to_wire` and :func:`from_wire`), never as
a pickle, so this module is safe to import anywhere.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.naming import publish

__all__ = [
    "BrokenEnginePool",
    "ClientError",
    "ClusterError",
    "CompositeError",
    "ConnectionError",
    "EngineDied",
    "FileTimeoutError",
    "IdInUse",
    "InvalidClientID",
    "InvalidDeferredID",
    "InvalidEngineID",
    "InvalidProperty",
    "KernelError",
    "MessageSizeError",
    "NoDefaultAddress",
    "NoEnginesRegistered",
    "NotAPendingResult",
    "NotDefined",
    "NotStarted",
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
    "describe_exception",
    "from_wire",
    "to_wire",
]

MERGE_DISPLAY_ABOVE = 8
"""Identical errors of more engines than this are shown as one line (never merged in the data)."""


class KernelError(Exception):
    """Base of all errors that the kernel itself raises.

    IPython shows the user's own lines of its traceback, not the kernel's.
    """

    def _render_traceback_(self) -> list[str]:
        from ipython1.kernel.basics.errordisplay import render_error

        return render_error(self)


class WaitInterrupted(KeyboardInterrupt):
    """Ctrl-C ended the waiting for a call, but not the call; the message says what goes on and what can be done."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class ConnectionError(KernelError, builtins.ConnectionError):
    """The link to the controller could not be made, or is gone; calls in progress were not completed."""


class SecurityError(KernelError):
    """A FURL, key or state file is missing, malformed, open to others, or was refused by the other side."""


class ProtocolError(KernelError):
    """The other side sent something that is not in the protocol."""


class VersionMismatch(KernelError):
    """The two sides run different Python minor versions or protocol versions and cannot work together."""


class FileTimeoutError(KernelError, TimeoutError):
    """A file that was waited for (such as a FURL file) did not appear in time."""


class NoDefaultAddress(SecurityError, AttributeError):
    """There is no default address of a controller: no cluster was started, or its FURL file cannot be read."""


class InvalidEngineID(KernelError, LookupError):
    """A target names an engine that is not registered."""


class NoEnginesRegistered(KernelError):
    """The call needs at least one engine and none is registered."""


class IdInUse(KernelError):
    """An engine asked for an id that another engine has."""


class InvalidClientID(KernelError):
    """The controller does not know this client (any more)."""


class InvalidDeferredID(KernelError):
    """The result of this pending call was dropped (by ``flush``) and cannot be fetched any more."""


class QueueCleared(KernelError):
    """The command was removed from its engine's queue before it began."""


class ResultNotCompleted(KernelError, TimeoutError):
    """The result is not there yet."""


class ResultAlreadyRetrieved(KernelError):
    """The result was fetched before and is no longer kept."""


class SerializationError(KernelError):
    """An object could not be turned into bytes, or back."""


class UnpickleableException(KernelError):
    """Stands for an engine's exception that could not be rebuilt here; carries its name and message."""


class MessageSizeError(KernelError):
    """An object is larger than the configured limit."""

    @classmethod
    def too_large(cls, what: str, size: int, most: int, instead: str) -> MessageSizeError:
        """The error for something of ``size`` bytes that is to pass the controller, which takes at most ``most``.

        :param what: the thing that is too large.
        :param instead: what the user can do, besides sending it through files.
        """
        return cls(
            f"{what} is {size} bytes, the controller takes at most {most} (max_message_size in "
            f"ipython1.kernel.ini); {instead}, or through files"
        )


class NotAPendingResult(KernelError, TypeError):
    """Something that is not a ``PendingResult`` was given where one is needed."""


class InvalidProperty(KernelError, KeyError):
    """An engine does not have a property of this name."""

    __str__ = Exception.__str__


class NotDefined(KernelError, NameError):
    """A name is not defined in an engine's namespace."""


class TaskAborted(KernelError):
    """The task was aborted by a client."""


class TaskTimeout(KernelError, TimeoutError):
    """The task ran longer than its ``timeout``."""


class TaskRejectError(KernelError):
    """Raised inside a task to send it to another engine without using a retry."""


class StopLocalExecution(BaseException):
    """Leaves a ``with`` block whose body runs on the engines; raised by ``remote``, and caught where the block ends.

    It is not an ``Exception``, so that nothing on the way out takes it for an error.
    """


class ClientError(KernelError):
    """The client was used in a way that cannot work."""


class EngineDied(KernelError):
    """An engine went away before it finished what it was given."""


class NotStarted(EngineDied):
    """An engine went away before it began what waited for it; none of it was run, so it can be given to another."""


class BrokenEnginePool(KernelError, BrokenExecutor):
    """An executor has no engines any more, or no controller; the message says what happened."""


class ClusterError(ClientError):
    """A cluster could not be started, or not be asked what it was asked."""


class CompositeError(KernelError):
    """One or more engines failed; holds each failure and what the other engines returned.

    :ivar message: the first line, ``one or more exceptions from call to method: <method>``.
    :ivar elist: a tuple ``(exception type, exception, traceback text)`` for each failure, in order of engine id.
    :ivar engine_ids: the engine of each failure (``None`` where no engine is involved), parallel to ``elist``.
    :ivar method: the name of the call that failed.
    :ivar results: what the engines that did not fail returned, in order of engine id.
    :ivar exceptions: the exception objects of ``elist``, as a tuple.
    :ivar shown: what of the engines' output was shown while they ran, a ``liveoutput.Shown``; for the display.

    ``__cause__`` is an ``ExceptionGroup`` of the engines' exceptions, each with its engine's traceback as a note.
    """

    def __init__(
        self,
        method: str,
        elist: Iterable[tuple[type[BaseException], BaseException, str]],
        engine_ids: Sequence[int | None] = (),
        results: Sequence[Any] = (),
    ) -> None:
        self.method = method
        self.message = f"one or more exceptions from call to method: {method}"
        self.elist = list(elist)
        self.engine_ids = list(engine_ids) or [None] * len(self.elist)
        self.results = list(results)
        self.shown: Any = None
        super().__init__(self.message)
        if self.elist:
            self.__cause__ = BaseExceptionGroup(self.message, [value for _, value, _ in self.elist])

    def __reduce__(self) -> Any:
        return (type(self), (self.method, self.elist, self.engine_ids, self.results))

    @property
    def exceptions(self) -> tuple[BaseException, ...]:
        """The engines' exceptions, in the order of ``elist``."""
        return tuple(value for _, value, _ in self.elist)

    def _label(self, engine_ids: Sequence[int | None]) -> str:
        known = [engine_id for engine_id in engine_ids if engine_id is not None]
        return f"[{compress_ids(known)}:{self.method}]" if known else f"[{self.method}]"

    def summary_lines(self) -> list[str]:
        """One line per failing engine; identical errors of many engines share one."""
        described = self._merged([describe_exception(value) for value in self.exceptions])
        return [f"{label}: {text}" for label, text in described]

    def tracebacks(self) -> list[tuple[str, str]]:
        """Pairs of ``[id:method]`` and the engine's own traceback; identical ones of many engines share one."""
        return self._merged([text.rstrip("\n") for _, _, text in self.elist])

    def _merged(self, texts: Sequence[str]) -> list[tuple[str, str]]:
        pairs = list(zip(self.engine_ids, texts, strict=True))
        if len(pairs) <= MERGE_DISPLAY_ABOVE:
            return [(self._label([engine_id]), text) for engine_id, text in pairs]
        merged: dict[str, list[int | None]] = {}
        for engine_id, text in pairs:
            merged.setdefault(text, []).append(engine_id)
        return [(self._label(engine_ids), text) for text, engine_ids in merged.items()]

    def __str__(self) -> str:
        return "\n".join([self.message, *self.summary_lines()])

    def print_tracebacks(self, excid: int | None = None) -> None:
        """Print the engines' own tracebacks: all of them, or that of failure number ``excid``.

        :raises IndexError: when there is no failure of that number.
        """
        if excid is None:
            chosen = self.tracebacks()
        else:
            index = self._checked(excid)
            chosen = [(self._label([self.engine_ids[index]]), self.elist[index][2].rstrip("\n"))]
        for label, text in chosen:
            print(f"{label}:\n{text}\n")

    def raise_exception(self, excid: int = 0) -> None:
        """Raise failure number ``excid`` as the exception it was on its engine.

        :raises IndexError: when there is no failure of that number.
        """
        __tracebackhide__ = True
        exception = self.elist[self._checked(excid)][1]
        before = exception.__context__
        try:
            raise exception.with_traceback(None)
        finally:
            # Raised while this error is handled, it would be shown as having come of it.
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
                f"an exception with index {excid} does not exist: there are {len(self.elist)}, numbered from 0"
            )
        return excid


def describe_exception(exception: BaseException) -> str:
    """``Type: message`` for an exception, also for one whose ``__str__`` fails."""
    name = type(exception).__name__
    try:
        if isinstance(exception, SyntaxError) and str(exception.filename).startswith("<ipython-"):
            # The file is what the user typed, and its invented name is different on every engine.
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
"""Characters of a message that travel; the place for it on the wire is bounded."""


def to_wire(exception: BaseException) -> tuple[str, str]:
    """The name and message under which the controller sends an error of its own."""
    name = type(exception).__name__
    if name in _BY_NAME or name in _BUILTIN:
        message = str(exception)
    else:
        name, message = "KernelError", describe_exception(exception)
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}..."
    return name, message


def from_wire(name: str, message: str) -> Exception:
    """The exception for what :func:`to_wire` gave; an unknown name gives a :class:`KernelError`."""
    if name in _BUILTIN:
        return _BUILTIN[name](message)
    return _BY_NAME.get(name, KernelError)(message)


_published = [globals()[name] for name in __all__]
publish("ipython1.kernel.error", *(each for each in _published if isinstance(each, type)))
