"""What tasks' and results' payloads hold; read and written by engines and clients only, because it unpickles.

A task's payload is a head and three sections; a result's is empty for "nothing to say", a bare pickle for a
value without output, or a head and sections.  Before these, that of a failure has a line for the controller.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from ipython1.core.failures import record_exception
from ipython1.core.results import CallOutcome, Displayed
from ipython1.core.texts import clean_text
from ipython1.kernel.basics.error import KernelError, MessageSizeError, ProtocolError
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.plain import is_small_atom
from ipython1.kernel.objects.serialize import MADE_BY_VALUE, dumps, loads
from ipython1.kernel.objects.taskobjects import TaskValue
from ipython1.kernel.wire.bulk import joined
from ipython1.kernel.wire.failureline import after_line, pack_line
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.payload import pack_sizes, split_uncopied, total_size
from ipython1.kernel.wire.taskwire import DIGEST_SIZE, MOST_BYTES

T = TypeVar("T")

_HEAD: Final = struct.Struct("<BBIII")
_HEAD_SIZE: Final = _HEAD.size
_new_tuple: Final = tuple.__new__
CLEAR_BEFORE: Final = 1
CLEAR_AFTER: Final = 2
SHARED: Final = 4
LIVE: Final = 8
"""Somebody may want to see what it writes while it runs."""

"""The function is of one map, whose calls on an engine share it with all that it brings along."""

NO_ARGUMENTS: Final = pickle.dumps((), 5)
"""The arguments of a call without any."""

_PICKLE: Final = b"\x80\x05"
"""How a pickle of protocol 5 begins, and nothing else that :func:`object_section` gives."""


def digest(data: bytes | str) -> bytes:
    """The name of some bytes."""
    return blake2b(
        data.encode(errors="surrogatepass") if isinstance(data, str) else data,
        digest_size=DIGEST_SIZE,
    ).digest()


def pack_object(value: object) -> Bytes:
    """Any object as bytes, which do not change with it.

    :raises SerializationError: when it cannot be pickled.
    """
    section = pickle.dumps(value, 5) if is_small_atom(value) else object_section(value)
    return section if isinstance(section, bytes) else joined(section)


Section: TypeAlias = bytes | list[Buffer]
"""A section of a payload, whole or in parts."""


def object_section(value: object) -> Section:
    """What :func:`pack_object` gives; its parts may be memory of the object's.

    :raises SerializationError: when it cannot be pickled.
    """
    buffers = dumps(value).buffers
    if len(buffers) == 1:
        stream = bytes(buffers[0])
        if stream[:2] == _PICKLE and MADE_BY_VALUE not in stream:
            return stream
    sizes = pack_sizes(buffers)
    if sizes[:2] == _PICKLE:
        buffers = (*buffers, b"")
        sizes = pack_sizes(buffers)
    return [sizes, *buffers]


def unpack_object(data: Bytes) -> Any:
    """What :func:`pack_object` packed.

    :raises SerializationError: when it cannot be rebuilt.
    """
    return load_object(data, loads)


def split_object(data: Bytes) -> Sequence[Buffer]:
    """The buffers of what :func:`pack_object` packed."""
    return split_uncopied(data) if data[:2] != _PICKLE else (data,)


def load_object(data: Bytes, load: Callable[[Sequence[Buffer]], T]) -> Any | T:
    """What :func:`pack_object` packed, on an engine.

    :param load: rebuilds what may hold functions.
    :raises SerializationError: when it cannot be rebuilt.
    """
    if data[:2] != _PICKLE:
        return load(split_uncopied(data))
    try:
        return pickle.loads(data)
    except Exception:
        return load((data,))  # says what is wrong


# -- tasks ---------------------------------------------------------------------------------------------------------


class Kind(IntEnum):
    """What a task's payload holds."""

    SOURCE = 1
    CALL = 2
    ITEMS = 3
    OBJECT = 4
    CALL_WITH = 5


def pack_task(
    kind: Kind, flags: int, body: Section, extra: Section = b"", push: Section = b""
) -> Bytes:
    """A task's payload.

    ==========  =======================  ===================================
    kind        body                     extra
    ==========  =======================  ===================================
    SOURCE      the code, UTF-8          the names to pull, one on each line
    CALL        the function's digest    pickled (args, kwargs)
    CALL_WITH   the pickled function     pickled (args, kwargs)
    ITEMS       the function's digest    pickled list of args
    OBJECT      the pickled task         --
    ==========  =======================  ===================================

    :raises MessageSizeError: when it is too large to be sent at all.
    """
    if type(body) is type(extra) is type(push) is bytes:
        one, two, three = len(body), len(extra), len(push)
    else:
        one, two, three = map(_size, (body, extra, push))
    size = _HEAD_SIZE + one + two + three
    if size > MOST_BYTES:
        raise MessageSizeError(
            f"the task is {size} bytes, and none can have more than {MOST_BYTES}; send it in parts, or through files"
        )
    head = _HEAD.pack(kind, flags, one, two, three)
    if type(body) is type(extra) is type(push) is bytes:
        return head + body + extra + push
    return joined([head, *_parts(body), *_parts(extra), *_parts(push)])


def _parts(section: Section) -> list[Buffer]:
    return section if isinstance(section, list) else [section]


def _size(section: Section) -> int:
    return total_size(_parts(section))


class TaskBody(NamedTuple):
    """A task's payload, cut into its sections."""

    kind: int
    flags: int
    body: Bytes
    extra: Bytes
    push: Bytes


def unpack_task(data: Bytes) -> TaskBody:
    """What :func:`pack_task` packed.

    :raises ProtocolError: when it is malformed.
    """
    if len(data) < _HEAD_SIZE:
        raise ProtocolError("a task is cut short")
    kind, flags, one, two, three = _HEAD.unpack_from(data)
    first = _HEAD_SIZE + one
    second = first + two
    if second + three != len(data):
        raise ProtocolError("the sections of a task do not add up")
    extra = data[first:second] if two else b""
    push = data[second:] if three else b""
    # This is several times faster than to call the class.
    return _new_tuple(TaskBody, (kind, flags, data[_HEAD_SIZE:first], extra, push))


def pack_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Section:
    """The arguments of a call.

    :raises SerializationError: when they cannot be pickled.
    """
    args = tuple(args)
    if kwargs:
        return object_section([args, dict(kwargs)])
    for argument in args:
        if not is_small_atom(argument):
            return object_section(args)
    return pickle.dumps(args, 5)


def unpack_arguments(data: Bytes, load: Callable[[Sequence[Buffer]], Any]) -> tuple[Any, Any]:
    """Positional and keyword arguments (or None)."""
    value = load_object(data, load)
    return (value, None) if type(value) is tuple else value


# -- results -------------------------------------------------------------------------------------------------------

_NO_VALUE: Final = pickle.dumps(None, 5)
_RESULT: Final = struct.Struct("<BII")
_VALUE: Final = 1
_NAMED: Final = 2
_FAILURE: Final = 4
_ITEMS: Final = 8
_DISPLAY: Final = 16


class Partly(list[tuple[bool, bytes]]):
    """The results of a group of items some of which failed: for each whether it went well, and its value or
    record, packed."""


def pack_result(outcome: CallOutcome, value: Any, named: bool) -> tuple[bool, Bytes]:
    """A result's payload, and whether it is one of success.

    :param value: what the task gives, if it did not fail.
    :param named: ``value`` is a dict of names.
    """
    if outcome.failure is not None:
        return False, _pack_failure(outcome)
    plain = not (outcome.stdout or outcome.stderr or outcome.display)
    if plain and (value is None or (named and not value)):
        return True, b"" if named else _NO_VALUE
    try:
        if isinstance(value, Partly):
            return True, _pack_sections(outcome, _ITEMS, object_section(list(value)))
        if is_small_atom(value):
            body: Section = pickle.dumps(value, 5)
        else:
            body = object_section(value)
    except KernelError as problem:
        return False, _pack_failure(outcome._replace(failure=record_exception(problem)))
    if plain and not named and isinstance(body, bytes):
        return True, body
    return True, _pack_sections(outcome, _NAMED if named else _VALUE, body)


def _pack_failure(outcome: CallOutcome) -> Bytes:
    record = outcome.failure
    assert record is not None
    line = pack_line(
        clean_text(f"{record.ename}: {record.evalue}" if record.evalue else record.ename)
    )
    sections = _pack_sections(outcome, _FAILURE, object_section(record))
    return line + sections if isinstance(sections, bytes) else joined([line, sections])


def _pack_sections(outcome: CallOutcome, flags: int, body: Section) -> Bytes:
    stdout = outcome.stdout.encode(errors="surrogatepass")
    stderr = outcome.stderr.encode(errors="surrogatepass")
    if outcome.display:
        flags |= _DISPLAY
        whole = bytes(joined(_parts(body)))
        body = object_section((whole, bytes(pack_object(outcome.display))))
    head = _RESULT.pack(flags, len(stdout), len(stderr)) + stdout + stderr
    return head + body if isinstance(body, bytes) else joined([head, *body])


def unpack_result(data: Bytes) -> TaskValue:
    """What :func:`pack_result` packed, rebuilt.

    :raises KernelError: when it cannot be rebuilt here.
    """
    if not data:
        return TaskValue(named=True)
    if data[:2] == _PICKLE:
        return TaskValue(None if data == _NO_VALUE else unpack_object(data))
    data = after_line(data)
    flags, one, two = _RESULT.unpack_from(data, 0)
    first = _RESULT.size + one
    second = first + two
    stdout, stderr = _text(data[_RESULT.size : first]), _text(data[first:second])
    body = data[second:]
    display: Sequence[Displayed] = ()
    if flags & _DISPLAY:
        body, shown = unpack_object(body)
        display = unpack_object(shown)
    value = unpack_object(body)
    if flags & _FAILURE:
        return TaskValue(None, False, exception_of(value), stdout, stderr, display)
    if flags & _ITEMS:
        value = Partly(value)
    return TaskValue(value, bool(flags & _NAMED), None, stdout, stderr, display)


def output_of(data: Bytes) -> tuple[str, str]:
    """What a result's payload says was written to standard output and error; does not unpickle anything."""
    if not data or data[:2] == _PICKLE:
        return "", ""
    data = after_line(data)
    _, one, two = _RESULT.unpack_from(data, 0)
    first = _RESULT.size + one
    return _text(data[_RESULT.size : first]), _text(data[first : first + two])


def failed_among(data: Bytes) -> int:
    """How many of a group of items have failed, of the payload of a result of success; rebuilds none of them."""
    if not data or data[:2] == _PICKLE:
        return 0
    flags, one, two = _RESULT.unpack_from(data, 0)
    if not flags & _ITEMS:
        return 0
    body = data[_RESULT.size + one + two :]
    if flags & _DISPLAY:
        body, _ = unpack_object(body)
    return sum(1 for good, _ in unpack_object(body) if not good)


def _text(data: Bytes) -> str:
    return str(data, "utf-8", "surrogatepass")


def unpack_item(good: bool, data: bytes) -> Any:
    """The value, or the exception, of one of the items of :class:`Partly`."""
    value = unpack_object(data)
    return value if good else exception_of(value)


def pack_items(results: Sequence[tuple[bool, Any]]) -> Any:
    """What a group of items gives: the list of values, or :class:`Partly` if not all of them went well.

    :param results: for each item whether it went well, and its value or
        :class:`~ipython1.core.failures.ExceptionRecord`.
    """
    if all(good for good, _ in results):
        values = [value for _, value in results]
        try:
            object_section(values)
        except KernelError:
            pass
        else:
            return values
    return Partly(_pack_item(good, value) for good, value in results)


def _pack_item(good: bool, value: Any) -> tuple[bool, bytes]:
    try:
        return good, bytes(pack_object(value))
    except KernelError as problem:
        return False, bytes(pack_object(record_exception(problem)))
