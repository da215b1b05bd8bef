"""What the frames of the task interface say.

Payloads of tasks and of results are opaque here and are passed on as they are; what they hold is the business of
``taskcodec`` in clients and engines.  Everything is packed, a whole batch in each frame.  This module is long because
all packed forms are in one place.

=================  =====================  ===============  ==========================================================
kind               from, to               ident            says
=================  =====================  ===============  ==========================================================
``FUNCTION``       client, controller,    --               meta: digest; payload: a function's bytes
                   engine
``SUBMIT``         client, controller     --               payload: options, a table of tasks, their payloads
``CONFIRM``        client, controller     batch number     a batch of results has arrived
``DONE``           controller, client     batch number     payload: results, each with its header
``CREDIT``         controller, client     accepted         meta: tasks and bytes that may be submitted in all
``NOTE``           controller, client     --               payload: what people who wait for tasks are to know
``RUN``            controller, engine     --               payload: a table of runs, their payloads
``RETRACT``        controller, engine     --               payload: runs to give back
``STOP``           controller, engine     task id          meta: attempt; payload: see ``verdicts``, or nothing
``ASK_DEPEND``     controller, engine     version          meta: digest of a function of the engine's properties
``RESULTS``        engine, controller     first row        meta: their age and :mod:`notes
                                                            <ipython1.kernel.wire.failurenotes>`; payload: a table of
                                                            results, their payloads
``BEGUN``          engine, controller     task id          meta: attempt
``GIVEN_BACK``     engine, controller     --               payload: runs
``FORGET``         client, controller,    --               meta: digest of a function that is not used any more
                   engine
``DEPENDS``        engine, controller     version          meta: digest, answer, and what it raised
``SAFE``           controller, engine     row              all results up to this row are safe; forget them
``TASK_OUTPUT``    engine, controller     task id          meta: attempt, name of a stream; payload: what it has
                                                           written while it runs
``TASK_OUTPUT``    controller, client     task id          the same, with the engine's id instead of the attempt
=================  =====================  ===============  ==========================================================

With the flag ``frames.BULK`` the meta part of ``SUBMIT``, ``RUN``, ``RESULTS`` and ``DONE`` begins with what is else
at the head of the payload, for one task, and a bulk transfer brings the task's own payload.

A run is named for ever by its task's id and the number of the attempt, which holds the controller's epoch (see
:func:`attempt_number`), so no two runs share a name even if a controller forgot one.  An engine numbers the rows of its
``RESULTS`` 1, 2, ... for as long as its process lives, and keeps each until a ``SAFE`` covers it; what it sends again
has the number it had before.

A client begins with the question ``begin``, whose answer is a first block of ids and its credit.  When it comes back it
asks ``resync`` instead, before it sends anything else; see :mod:`~ipython1.kernel.wire.tasksync`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire.failurenotes import Note, pack_notes
from ipython1.kernel.wire.frames import HEADER, MAX_PAYLOAD, Buffer, Bytes, pack_frame
from ipython1.kernel.wire.tasklinks import Links

FUNCTION: Final = 48
SUBMIT: Final = 49
CONFIRM: Final = 50
DONE: Final = 51
CREDIT: Final = 52
NOTE: Final = 53
RUN: Final = 56
RETRACT: Final = 57
STOP: Final = 58
ASK_DEPEND: Final = 59
RESULTS: Final = 61
BEGUN: Final = 62
GIVEN_BACK: Final = 63
DEPENDS: Final = 65
FORGET: Final = 66
SAFE: Final = 67
TASK_OUTPUT: Final = 72

DIGEST_SIZE: Final = 16
NO_DIGEST: Final = bytes(DIGEST_SIZE)

INLINE: Final = MAX_PAYLOAD // 2
"""Bytes.  A task's or result's payload that is larger travels as a bulk transfer."""

MOST_BYTES: Final = 2**32 - 1
"""Bytes.  A larger task or result has no form on the wire."""

_FULL: Final = MAX_PAYLOAD // 4
"""Bytes.  A frame that has reached this size is closed."""

Frame: TypeAlias = tuple[list[Buffer], int]
"""A whole frame, and its length in bytes, as ``FrameLink.send_packed`` takes it."""

GUARDED: Final = 1
"""Flag of a run: tell results before it begins, that it begins, and its result as soon as it is there."""


_EPOCH_BITS: Final = 32


def attempt_number(epoch: int, count: int) -> int:
    """The number of an attempt: larger than those of all earlier epochs."""
    return epoch << _EPOCH_BITS | count


def epoch_of(attempt: int) -> int:
    """The epoch of the controller that made an attempt."""
    return attempt >> _EPOCH_BITS


class Status(IntEnum):
    """How an attempt, or in the end a task, came out.

    ``OK`` and ``FAILED`` come with the engine's opaque payload; ``REFUSED`` is an error of the kernel itself.
    """

    OK = 0
    FAILED = 1
    REFUSED = 2
    REJECTED = 3
    STOPPED = 4
    """The engine let go of it as it was told to, before or while it ran."""


# -- options -------------------------------------------------------------------------------------------------------

_OPTIONS: Final = struct.Struct("<IidI16s16sBBB")
_PRIVATE: Final = 1
_TARGETED: Final = 2
_BY_PROPERTIES: Final = 4
_ABORTED: Final = 8
_FLAGS_AT: Final = _OPTIONS.size - 2
_TARGETS: Final = struct.Struct("<H")
_TARGET_SIZE: Final = 4

MOST_TARGETS: Final = 4096
"""Engines that a task may name, at most."""

LONGEST_WHAT: Final = 80
"""Bytes of :attr:`OptionsSpec.what`."""


@dataclass(frozen=True, slots=True)
class OptionsSpec:
    """The options of a task on the wire: what the controller has to know of them, and of the task.

    :ivar template: digest of what it does, by which durations are averaged.
    :ivar private: only the client that submits it will read its result, so once that has arrived, nobody keeps it.
    :ivar what: what it does in a few words, for people who look at queues; cut if it is long.
    :ivar targets: the ids of the engines that may run it; none for any engine.
    :ivar by_properties: whether ``depend`` is, or begins with, the properties that the user has named as targets.
    :ivar aborted: its client aborted it before it was sent: nothing is to be done but to say so to all who wait for it.
    """

    template: bytes
    retries: int = 0
    priority: int = 0
    timeout: float = 0.0
    weight: int = 1
    depend: bytes = b""
    functions: tuple[bytes, ...] = ()
    private: bool = False
    what: str = ""
    targets: tuple[int, ...] = ()
    by_properties: bool = False
    aborted: bool = False

    def pack(self) -> bytes:
        what = self.what.encode(errors="replace")[:LONGEST_WHAT]
        targets = self.targets
        return _OPTIONS.pack(
            self.retries,
            self.priority,
            self.timeout,
            self.weight,
            self.template,
            self.depend or NO_DIGEST,
            len(self.functions),
            (_PRIVATE if self.private else 0)
            | (_TARGETED if targets else 0)
            | (_BY_PROPERTIES if self.by_properties else 0)
            | (_ABORTED if self.aborted else 0),
            len(what),
        ) + b"".join(
            (*self.functions, struct.pack(f"<H{len(targets)}I", len(targets), *targets), what)
            if targets
            else (*self.functions, what)
        )

    @classmethod
    def unpack(cls, data: Buffer) -> OptionsSpec:
        """:raises ProtocolError: when they are malformed."""
        if len(data) < _OPTIONS.size:
            raise ProtocolError("the options of a task are cut short")
        head = _OPTIONS.unpack_from(data, 0)
        retries, priority, timeout, weight, template, depend, count, flags, length = head
        rest = bytes(data[_OPTIONS.size :])
        end = count * DIGEST_SIZE
        functions = tuple(rest[start : start + DIGEST_SIZE] for start in range(0, end, DIGEST_SIZE))
        targets, end = cls._read_targets(rest, end) if flags & _TARGETED else ((), end)
        if len(rest) != end + length or length > LONGEST_WHAT or not weight or not timeout >= 0:
            raise ProtocolError("the options of a task are malformed")
        depend = b"" if depend == NO_DIGEST else depend
        private = bool(flags & _PRIVATE)
        what = rest[end:].decode(errors="replace")
        return cls(
            template,
            retries,
            priority,
            timeout,
            weight,
            depend,
            functions,
            private,
            what,
            targets,
            bool(flags & _BY_PROPERTIES),
            bool(flags & _ABORTED),
        )

    @staticmethod
    def _read_targets(data: bytes, position: int) -> tuple[tuple[int, ...], int]:
        """The targets that stand there, and where they end."""
        begin = position + _TARGETS.size
        count = _TARGETS.unpack_from(data, position)[0] if len(data) >= begin else 0
        end = begin + count * _TARGET_SIZE
        if not 0 < count <= MOST_TARGETS or len(data) < end:
            raise ProtocolError("the targets of a task are malformed")
        return struct.unpack_from(f"<{count}I", data, begin), end

    def as_aborted(self) -> OptionsSpec:
        """Those of the same task when its client has aborted it before it was sent."""
        return OptionsSpec(self.template, private=self.private, what=self.what, aborted=True)


# -- submissions ---------------------------------------------------------------------------------------------------

_SUBMIT_HEAD: Final = struct.Struct("<HI")
_OPTION_SIZE: Final = struct.Struct("<H")
_LINKED: Final = 0x8000
"""Mark of the size of what is no options but :class:`Links`."""

_ENTRY: Final = struct.Struct("<QIHH")


_new_tuple: Final = tuple.__new__


class Entry(NamedTuple):
    """A task to submit.

    :ivar options: packed :class:`OptionsSpec`.
    :ivar recovery: (options, payload) of the recovery tasks; before them, :class:`Links` with an empty payload if it
        waits for other tasks.
    """

    task_id: int
    options: bytes
    payload: Bytes
    recovery: Sequence[tuple[bytes, Bytes]] = ()

    @property
    def size(self) -> int:
        """Bytes of all payloads."""
        return len(self.payload) + sum(len(payload) for _, payload in self.recovery)

    @property
    def is_aborted(self) -> bool:
        """Whether it says only that a task was aborted before it was sent."""
        return bool(self.options[_FLAGS_AT] & _ABORTED)


class Submitted(NamedTuple):
    """A task that was submitted; ``options`` are what the reader made of the packed ones, and ``Links`` as they are."""

    task_id: int
    options: object
    payload: Bytes
    recovery: Sequence[tuple[object, Bytes]] = ()


def _frame(
    kind: int,
    head: list[Buffer],
    bodies: list[Bytes],
    size: int,
    ident: int = 0,
    meta: bytes = b"",
) -> Frame:
    length = HEADER.size + len(meta) + size
    return [HEADER.pack(kind, 0, len(meta), size, ident), meta, *head, *bodies], length


class _SubmitFrame:
    """A ``SUBMIT`` frame in the making."""

    def __init__(self) -> None:
        self.options: dict[bytes, int] = {}
        self.options_size = 0
        self.table: list[bytes] = []
        self.bodies: list[Bytes] = []
        self.size = 0

    def add(self, task_id: int, options: bytes, payload: Bytes, followers: int) -> None:
        index = self.options.get(options)
        if index is None:
            index = self.options[options] = len(self.options)
            self.options_size += len(options)
        self.table.append(_ENTRY.pack(task_id, len(payload), index, followers))
        self.bodies.append(payload)
        self.size += len(payload)

    def head(self) -> list[Buffer]:
        parts: list[Buffer] = [_SUBMIT_HEAD.pack(len(self.options), len(self.table))]
        for options in self.options:
            mark = _LINKED if type(options) is Links else 0
            parts.append(_OPTION_SIZE.pack(len(options) | mark))
            parts.append(options)
        parts.append(b"".join(self.table))
        return parts

    def finish(self) -> Frame:
        head = self.head()
        return _frame(SUBMIT, head, self.bodies, sum(map(len, head)) + self.size)


def pack_submissions(entries: Iterable[Entry]) -> Iterator[Frame]:
    """``SUBMIT`` frames; each entry must be smaller than ``INLINE``."""
    frame = _SubmitFrame()
    for task_id, options, payload, recovery in entries:
        frame.add(task_id, options, payload, len(recovery))
        for more, body in recovery:
            frame.add(task_id, more, body, 0)
        size = frame.size + frame.options_size + 64 * len(frame.table)
        if size >= _FULL or len(frame.options) > 1000:
            yield frame.finish()
            frame = _SubmitFrame()
    if frame.table:
        yield frame.finish()


def pack_submission_head(entry: Entry) -> tuple[bytes, list[Bytes]]:
    """The meta part of a ``SUBMIT`` frame with a bulk transfer, and the payloads that this brings."""
    frame = _SubmitFrame()
    frame.add(entry.task_id, entry.options, entry.payload, len(entry.recovery))
    for options, payload in entry.recovery:
        frame.add(entry.task_id, options, payload, 0)
    return b"".join(frame.head()), frame.bodies


def as_payload(part: Buffer) -> Bytes:
    """A payload that a frame or a bulk transfer brought; what is as large as only these are stays where it is."""
    return part if type(part) is memoryview and len(part) > MAX_PAYLOAD else bytes(part)


def unpack_submissions(
    data: Buffer,
    read_options: Callable[[bytes], object],
    bodies: Buffer | None = None,
    cut: Callable[[Any], Any] = as_payload,
) -> list[Submitted]:
    """The tasks of a ``SUBMIT`` frame.

    :param read_options: makes something of packed options.
    :param bodies: the payloads, if they came as a bulk transfer; anything that can be sliced.
    :param cut: makes a payload of a slice of these.
    :raises ProtocolError: when it is malformed.
    """
    try:
        options, table, end = _submission_head(data, read_options)
        if bodies is None:
            bodies, position = data, end
        else:
            position = 0
        tasks: list[Submitted] = []
        waiting = 0
        recovery: list[tuple[object, bytes]] = []
        for task_id, size, index, followers in table:
            payload = cut(bodies[position : position + size])
            position += size
            if waiting:
                waiting -= 1
                recovery.append((options[index], payload))
            else:
                waiting = followers
                recovery = [] if followers else _NONE
                # This is several times faster than to call the class.
                tasks.append(_new_tuple(Submitted, (task_id, options[index], payload, recovery)))
    except (struct.error, IndexError) as problem:
        raise ProtocolError(f"a submission of tasks is malformed: {problem}") from None
    if position != len(bodies) or waiting:
        raise ProtocolError("the payloads of a submission of tasks do not add up")
    return tasks


_NONE: list[tuple[object, bytes]] = []


def uncut(part: Any) -> Any:
    """Leaves a payload the slice that it is; for :func:`unpack_submissions`."""
    return part


def _submission_head(
    data: Buffer, read_options: Callable[[bytes], object]
) -> tuple[list[object], Iterator[tuple[int, int, int, int]], int]:
    """The options in a ``SUBMIT`` frame, its table, and where the payloads begin if they are in it."""
    count, number = _SUBMIT_HEAD.unpack_from(data, 0)
    position = _SUBMIT_HEAD.size
    options: list[object] = []
    for _ in range(count):
        (size,) = _OPTION_SIZE.unpack_from(data, position)
        position += _OPTION_SIZE.size
        if size & _LINKED:
            size ^= _LINKED
            options.append(Links.unpack(data[position : position + size]))
        else:
            options.append(read_options(bytes(data[position : position + size])))
        position += size
    end = position + number * _ENTRY.size
    return options, _ENTRY.iter_unpack(data[position:end]), end


def bodies_size(head: Buffer) -> int:
    """Bytes of all payloads of a ``SUBMIT`` frame with a bulk transfer.

    :raises ProtocolError: when it is malformed.
    """
    try:
        _, table, _ = _submission_head(head, bytes)
        return sum(size for _, size, _, _ in table)
    except struct.error as problem:
        raise ProtocolError(f"a submission of tasks is malformed: {problem}") from None


# -- runs and results ----------------------------------------------------------------------------------------------

_COUNT: Final = struct.Struct("<I")
_RUN: Final = struct.Struct("<QQIB")
_RESULT: Final = struct.Struct("<QQIBd")
_LAST_STATUS: Final = max(Status)
_IMPOSSIBLE: Final = "a result has an unknown status, or took an impossible time"


def _no_meta(begin: int, end: int) -> bytes:
    return b""


def _pack_table(
    kind: int,
    rows: Iterable[tuple[bytes, Bytes]],
    first: int = 0,
    meta: Callable[[int, int], bytes] = _no_meta,
) -> Iterator[Frame]:
    """Frames of rows, each a packed entry and a payload.

    :param first: the number of the first row, if they have numbers; the ident of a frame is that of its first row.
    :param meta: gives the meta part of a frame with the rows from one place on up to another.
    """
    begin = end = 0
    table: list[bytes] = []
    bodies: list[Bytes] = []
    size = 0
    for entry, payload in rows:
        table.append(entry)
        if payload:
            bodies.append(payload)
        size += len(entry) + len(payload)
        end += 1
        if size >= _FULL:
            yield _table_frame(kind, table, bodies, size, first and first + begin, meta(begin, end))
            table, bodies, size, begin = [], [], 0, end
    if table:
        yield _table_frame(kind, table, bodies, size, first and first + begin, meta(begin, end))


def _table_frame(
    kind: int, table: list[bytes], bodies: list[Bytes], size: int, ident: int, meta: bytes
) -> Frame:
    head: list[Buffer] = [_COUNT.pack(len(table)), *table]
    return _frame(kind, head, bodies, size + _COUNT.size, ident, meta)


def _table(data: Buffer, entry: struct.Struct, what: str) -> tuple[Iterator[tuple[int, ...]], int]:
    """The entries of a table, and where the payloads begin."""
    if len(data) < _COUNT.size:
        raise ProtocolError(f"{what} have no count")
    (count,) = _COUNT.unpack_from(data, 0)
    end = _COUNT.size + count * entry.size
    if end > len(data):
        raise ProtocolError(f"{what} are cut short")
    return entry.iter_unpack(data[_COUNT.size : end]), end


def pack_run(task_id: int, attempt: int, size: int, flags: int) -> bytes:
    """One entry of a table of runs."""
    return _RUN.pack(task_id, attempt, size, flags)


def pack_runs(runs: Iterable[tuple[int, int, int, bytes]]) -> Iterator[Frame]:
    """``RUN`` frames, of (task id, attempt, flags, payload)."""
    pack = _RUN.pack
    rows = [
        (pack(task_id, attempt, len(payload), flags), payload)
        for task_id, attempt, flags, payload in runs
    ]
    return _pack_table(RUN, rows)


def unpack_runs(data: Buffer) -> list[tuple[int, int, int, bytes]]:
    """What :func:`pack_runs` packed.

    :raises ProtocolError: when it is malformed.
    """
    rows, position = _table(data, _RUN, "runs")
    runs = []
    for task_id, attempt, size, flags in rows:
        runs.append((task_id, attempt, flags, bytes(data[position : position + size])))
        position += size
    if position != len(data):
        raise ProtocolError("the payloads of runs do not add up")
    return runs


def unpack_run(data: Buffer) -> tuple[int, int, int]:
    """Task id, attempt and flags of the one run with a bulk transfer."""
    if len(data) != _RUN.size:
        raise ProtocolError("a run is malformed")
    task_id, attempt, _, flags = _RUN.unpack(data)
    return task_id, attempt, flags


Result: TypeAlias = tuple[int, int, int, float, Bytes]
"""Task id, attempt, status, seconds it took, payload."""


def pack_results(
    results: Sequence[Result],
    first: int,
    age: float = 0.0,
    notes: Mapping[int, Note] | None = None,
) -> Iterator[Frame]:
    """``RESULTS`` frames.

    :param first: the row number of the first result; the others follow.
    :param age: seconds since the last of them was there.
    :param notes: what is to be told of some of them, by their place among the results.
    """
    pack = _RESULT.pack
    rows = [
        (pack(task_id, attempt, len(payload), status, duration), payload)
        for task_id, attempt, status, duration, payload in results
    ]

    def meta(begin: int, end: int) -> bytes:
        since = age + sum([result[3] for result in results[end:]])
        if not notes:
            return pack_notes(since)
        return pack_notes(since, {i - begin: n for i, n in notes.items() if begin <= i < end})

    return _pack_table(RESULTS, rows, first, meta)


RESULT_HEAD: Final = _RESULT.size
"""Bytes of what :func:`pack_result_head` gives; the age and a note follow."""


def pack_result_head(task_id: int, attempt: int, status: int, duration: float) -> bytes:
    """The beginning of the meta part of a ``RESULTS`` frame with a bulk transfer."""
    return _RESULT.pack(task_id, attempt, 0, status, duration)


def unpack_result_head(data: Buffer) -> tuple[int, int, int, float]:
    """Task id, attempt, status and duration.

    :raises ProtocolError: when it is malformed.
    """
    if len(data) < _RESULT.size:
        raise ProtocolError("a result is malformed")
    task_id, attempt, _, status, duration = _RESULT.unpack_from(data)
    if status > _LAST_STATUS or not 0.0 <= duration < math.inf:
        raise ProtocolError(_IMPOSSIBLE)
    return task_id, attempt, status, duration


def unpack_results(data: Buffer) -> list[Result]:
    """What :func:`pack_results` packed.

    :raises ProtocolError: when it is malformed.
    """
    rows, position = _table(data, _RESULT, "results")
    results: list[Result] = []
    append = results.append
    for task_id, attempt, size, status, duration in rows:
        # All of it is checked before any of it counts; one duration that is no number would spoil every average.
        if status > _LAST_STATUS or not 0.0 <= duration < math.inf:
            raise ProtocolError(_IMPOSSIBLE)
        if size:
            end = position + size
            append((task_id, attempt, status, duration, bytes(data[position:end])))
            position = end
        else:
            append((task_id, attempt, status, duration, b""))
    if position != len(data):
        raise ProtocolError("the payloads of results do not add up")
    return results


# -- finished tasks ------------------------------------------------------------------------------------------------

DONE_HEAD: Final = struct.Struct("<QIBiQddd")
"""Task id, size of the payload, status, engine, attempt; submitted and completed as seconds since the epoch;
duration."""


def pack_done(kinds: Iterable[tuple[bytes, Bytes]], batch: int) -> Iterator[Frame]:
    """``DONE`` frames of (packed ``DONE_HEAD``, payload); only the last has the number of the batch, the others 0."""
    parts: list[Buffer] = []
    size = 0
    for head, payload in kinds:
        if size >= _FULL:
            yield [HEADER.pack(DONE, 0, 0, size, 0), *parts], HEADER.size + size
            parts, size = [], 0
        parts.append(head)
        if payload:
            parts.append(payload)
        size += len(head) + len(payload)
    yield [HEADER.pack(DONE, 0, 0, size, batch), *parts], HEADER.size + size


# -- small ones ----------------------------------------------------------------------------------------------------

_CREDIT: Final = struct.Struct("<QQ")
_ATTEMPT: Final = struct.Struct("<Q")
_KEY: Final = struct.Struct("<QQ")


def pack_credit(tasks: int, size: int) -> bytes:
    """The meta part of ``CREDIT``."""
    return _CREDIT.pack(tasks, size)


def unpack_credit(meta: Buffer) -> tuple[int, int]:
    """Tasks and bytes."""
    if len(meta) != _CREDIT.size:
        raise ProtocolError("a credit is malformed")
    tasks, size = _CREDIT.unpack(meta)
    return tasks, size


ATTEMPT_SIZE: Final = _ATTEMPT.size


def pack_attempt(attempt: int) -> bytes:
    """The meta part of ``STOP`` and ``BEGUN``."""
    return _ATTEMPT.pack(attempt)


def pack_begun(run: tuple[int, int]) -> tuple[list[Buffer], int]:
    """The frame ``BEGUN`` of a run, (task id, attempt), and its length."""
    frame = pack_frame(BEGUN, run[0], pack_attempt(run[1]))
    return [frame], len(frame)


def unpack_attempt(meta: Buffer) -> int:
    """The number of an attempt."""
    if len(meta) != _ATTEMPT.size:
        raise ProtocolError("the number of an attempt is malformed")
    attempt: int = _ATTEMPT.unpack(meta)[0]
    return attempt


def pack_keys(keys: Iterable[tuple[int, int]]) -> bytes:
    """Runs, as (task id, attempt)."""
    return b"".join(_KEY.pack(task_id, attempt) for task_id, attempt in keys)


def unpack_keys(data: Buffer) -> list[tuple[int, int]]:
    """What :func:`pack_keys` packed.

    :raises ProtocolError: when it is malformed.
    """
    if len(data) % _KEY.size:
        raise ProtocolError("a list of runs is cut short")
    return list(_KEY.iter_unpack(data))


def pack_depends(depend: bytes, answer: bool, problem: str = "") -> bytes:
    """The meta part of ``DEPENDS``.

    :param problem: what the function raised, if it did.
    """
    return depend + bytes((answer,)) + problem.encode(errors="replace")


def unpack_depends(meta: Buffer) -> tuple[bytes, bool, str]:
    """The digest, the answer, and what the function raised."""
    if len(meta) <= DIGEST_SIZE:
        raise ProtocolError("the answer about a dependency is malformed")
    problem = str(meta[DIGEST_SIZE + 1 :], errors="replace")
    return bytes(meta[:DIGEST_SIZE]), bool(meta[DIGEST_SIZE]), problem
