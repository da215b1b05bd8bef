"""What engines are doing, for display: stacks, the effect of interrupts, and reports of unfinished calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from ipython1.core.texts import clip, compress_ids
from ipython1.core.tracebacks import place_name
from ipython1.kernel.basics.error import (
    InvalidEngineID,
    NoEnginesRegistered,
    ResultNotCompleted,
    describe_exception,
)
from ipython1.kernel.basics.naming import publish

if TYPE_CHECKING:
    from ipython1.kernel.calls.pendingresult import PendingResult

_SILENT: Final = "its interpreter is held by C code, which cannot be interrupted"
# Strings, compiled at first use, as this keeps the import of a client fast.
_ARROW: Final = r"(?m)^-+> \d+ ?(.*)$"
_FILE_PLACE: Final = r"File (?P<file>.*):(?P<line>\d+)(, in (?P<name>[^(\n]*))?"
_DUMPED: Final = r'(?m)^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)$'
_KERNEL: Final = r"[/\\](ipython1|IPython)[/\\]"
_WORKER: Final = r"[/\\]kernel[/\\]engine[/\\]worker\.py$"


def dumped_frames(dump: str) -> list[str]:
    """Return the user's frames of the thread that runs commands, outermost first, from a dump of ``faulthandler``."""
    for section in reversed(re.split(r"\n\s*\n", dump)):
        frames = list(re.finditer(_DUMPED, section))
        kernel = [index for index, frame in enumerate(frames) if re.search(_KERNEL, frame["file"])]
        # The newest frame comes first; the frames older than the kernel's only show how the process was started.
        if kernel and any(re.search(_WORKER, frame["file"]) for frame in frames):
            return [
                f"{place_name(frame['file'])}, line {frame['line']}, in {frame['name']}"
                for frame in reversed(frames[: kernel[0]])
            ]
    return []


def _pending(row: Mapping[str, Any]) -> str:
    """Return an engine's present command, shortened to fit within a line."""
    return clip(str(row["pending"]), 40)


def _without_cell(place: str) -> str:
    """Remove the cell from ``Cell In[7], line 2, in f()``, as its number may differ between engines."""
    return re.sub(r"^Cell In\[\d+\], ", "", place)


def place_of(row: Mapping[str, Any]) -> str:
    """Describe in one line where an engine's code is: its innermost frame, and the user's frame that led there."""
    if row["state"] == "silent":
        frames = dumped_frames(row.get("dump", ""))
        where = f"{_without_cell(frames[-1])}, " if frames else ""
        return f"{where}in C code that holds its interpreter"
    paragraphs = str(row.get("stack", "")).split("\n\n")
    cells = [part for part in paragraphs if part.startswith("Cell In[")]
    innermost, own = paragraphs[-1], (cells or paragraphs)[-1]
    if not own:
        return ""
    code = re.search(_ARROW, own)
    title = _without_cell(own.splitlines()[0])
    text = f"{code[1].strip()}  ({title})" if code else title
    inside = re.match(_FILE_PLACE, innermost)
    if innermost is not own and inside is not None:
        file = re.split(r"[/\\]", inside["file"])[-1]
        text += f", inside {inside['name'] or 'the module'} of {file}, line {inside['line']}"
    return text


class _Rows(list[tuple[int, dict[str, Any]]]):
    @classmethod
    def of(cls, rows: Iterable[Any]) -> Self:
        """Create the list from the controller's answer."""
        return cls((engine_id, row) for engine_id, row in rows)


class StackList(_Rows):
    """The stacks of engines: a list of pairs of an engine id and a dict, for display.

    Each dict has ``state`` (``'idle'``, ``'running'``, ``'silent'``, ``'stopped'``, ``'away'`` or ``'gone'``) and
    ``pending``, the engine's command or None.  A running engine adds ``command`` (client and number), ``seconds`` and
    ``stack`` (text).  A silent engine's interpreter did not answer in time; on the controller's host it adds ``dump``,
    its stacks as written by ``faulthandler``.  A stopped engine adds ``pid``: its process got SIGSTOP.  An engine that
    is away adds ``away``: for how many seconds the controller has been without a connection to it.  One whose code
    waits for a debugger adds ``debug``: where.  An engine on which a call of this client has failed that still runs on
    others adds ``failed``, a text that says so.
    """

    def __repr__(self) -> str:
        lines = ["<Stacks>"]
        for engine_id, row in self:
            lines += _labelled(engine_id, stack_lines(row))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from ipython1.notebook.html import lines_html

        return lines_html((engine_id, stack_lines(row)) for engine_id, row in self)


class InterruptList(_Rows):
    """The effect of an interrupt: a list of pairs of an engine id and a dict, for display.

    Each dict has ``pending``, the interrupted command, ``'a task'``, or None if nothing was running; and ``ended``,
    whether it has ended.  If it has not, the dict also has the items of :class:`StackList`.
    """

    def __repr__(self) -> str:
        lines = ["<Interrupt>"]
        for engine_id, row in self:
            lines += _labelled(engine_id, interrupt_lines(engine_id, row))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from ipython1.notebook.html import lines_html

        return lines_html((engine_id, interrupt_lines(engine_id, row)) for engine_id, row in self)


def _labelled(engine_id: int, lines: list[str]) -> list[str]:
    return [f"[{engine_id}] {lines[0]}", *(f"    {line}".rstrip() for line in lines[1:])]


def _unable(row: Mapping[str, Any]) -> str:
    """Return why an engine's code cannot be looked at; empty if it can."""
    match row["state"]:
        case "gone":
            return "gone"
        case "away":
            return f"away, out of reach for {row['away']:.1f} s; the controller waits for it"
        case "stopped":
            return f"its process is stopped (continue it with: kill -CONT {row['pid']})"
        case _:
            return ""


def stack_lines(row: Mapping[str, Any]) -> list[str]:
    """Return the lines that describe an engine; the first one shows its state."""
    first, *more = _state_lines(row)
    failed = [row["failed"]] if "failed" in row else []
    return [first, *failed, *more]


def _state_lines(row: Mapping[str, Any]) -> list[str]:
    command = _pending(row)
    unable = _unable(row)
    if unable:
        return [unable]
    match row["state"]:
        case "idle":
            return ["idle" if row["pending"] is None else f"about to run {command}"]
        case "silent":
            frames = dumped_frames(row.get("dump", ""))
            what = command if row["pending"] else "the engine"
            return [f"{what} does not respond: {_SILENT}", *frames]
        case _:
            head = "a task is running"
            if row["pending"] is not None:
                head = f"{command} has been running for {row.get('seconds', 0.0):.1f} s"
            if row.get("debug"):
                return [f"{head}, and waits for mec.debug() at {row['debug']}"]
            return [head, *str(row.get("stack", "")).splitlines()]


def interrupt_lines(engine_id: int, row: Mapping[str, Any]) -> list[str]:
    """Return the lines that describe the effect of an interrupt on an engine."""
    if row["ended"]:
        idle = row["pending"] is None
        return ["nothing was running" if idle else f"{_pending(row)} was interrupted"]
    what = "it did not answer" if row["pending"] is None else f"{_pending(row)} did not end"
    unable = _unable(row)
    if unable:
        why = [unable]
    elif row["state"] == "silent":
        why = [_SILENT, *dumped_frames(row.get("dump", ""))]
    else:
        why = [
            "it caught the interrupt, or is waiting in C code",
            *str(row.get("stack", "")).splitlines(),
        ]
    return [
        f"{what}: {why[0]}",
        *why[1:],
        f"mec.kill(targets={engine_id}) ends the engine; its namespace is lost",
    ]


class _Client(Protocol):
    """The client of a call."""

    def stacks(self, *, targets: list[int], block: bool) -> StackList: ...


class NotFinished(ResultNotCompleted):
    """A call did not finish in time; it is still running.

    :ivar pending: the call.
    :ivar done, unfinished: the ids of the engines that are done without errors, and of those that are not done.
    :ivar failed: the exceptions of engines, by id.
    :ivar stacks: a :class:`StackList` of the engines that are not done.
    """

    def __init__(self, pending: PendingResult, timeout: float, stacks: StackList) -> None:
        self.pending = pending
        self.failed: dict[int, BaseException] = pending.failures()
        self.stacks = stacks
        self.unfinished: list[int] = [engine_id for engine_id, _ in stacks]
        self.done: list[int] = [
            engine_id
            for engine_id in pending.engine_ids
            if engine_id not in self.failed and engine_id not in self.unfinished
        ]
        lines = [f"{pending.name} did not finish within {timeout:g} s; it is still running"]
        lines += report_lines(self.done, self.failed, self.stacks)
        super().__init__("\n".join(lines))

    @classmethod
    def of(cls, client: _Client, pending: PendingResult, timeout: float) -> Self:
        """Create the error for ``pending``, a call of ``client``; fetches the stacks of the engines."""
        stacks = StackList()
        waiting = pending.unfinished
        if waiting:
            # The call has already failed on an engine that disconnected in the meantime.
            with suppress(InvalidEngineID, NoEnginesRegistered):
                stacks = client.stacks(targets=waiting, block=True)
        for _, row in stacks:
            if row["state"] == "running":
                row["other"] = not pending.is_command(*row["command"])
        return cls(pending, timeout, stacks)


def _grouped(pairs: Iterable[tuple[int, str]]) -> list[tuple[str, str]]:
    """Group engines with the same text: return pairs of ids and a text."""
    groups: dict[str, list[int]] = {}
    for engine_id, text in pairs:
        groups.setdefault(text, []).append(engine_id)
    return [(compress_ids(ids), text) for text, ids in groups.items()]


def report_lines(
    done: list[int], failed: Mapping[int, BaseException], stacks: StackList
) -> list[str]:
    """Return a line for each group of engines with the same state: failed ones, running ones, then the rest."""
    failures = _grouped((each, describe_exception(value)) for each, value in failed.items())
    lines = [f"[{ids}] failed: {text}" for ids, text in failures]
    lines += [
        f"[{ids}] {text}" for ids, text in _grouped((each, _doing(row)) for each, row in stacks)
    ]
    if done:
        lines.append(f"[{compress_ids(done)}] done")
    return lines


def _doing(row: Mapping[str, Any]) -> str:
    unable = _unable(row)
    if unable:
        return unable
    if row.get("other"):
        return f"waiting for {_pending(row)} to finish"
    if row.get("debug"):
        return f"waits for mec.debug() at {row['debug']}"
    where = place_of(row)
    return f"still running: {where}" if where else "still running"


publish("ipython1.kernel.stacklist", StackList, InterruptList)
