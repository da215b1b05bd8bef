"""Tracebacks and stacks as plain text, with the user's source lines and without the interpreter's own frames.

They look like IPython's context tracebacks.  They are formatted here and not by IPython, because a failing task
must not cost a millisecond, because IPython's formatter keeps a parsed copy of every cell it has ever shown, and
because the text must not depend on an engine's IPython version.
"""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from types import CodeType, FrameType, TracebackType
from typing import Final, NamedTuple

from ipython1.core.texts import clip, message_of, shorten, type_name

MAX_TEXT: Final = 64 << 10
"""The maximum length of a traceback in characters; the middle of longer ones is cut."""

CONTEXT_LINES: Final = 2
MAX_FRAMES: Final = 40
_HEAD_FRAMES: Final = 12
_REPEATS: Final = 3
_MAX_CHAIN: Final = 10
_MAX_LINE: Final = 120
_RULE: Final = "-" * 75

CELL_PREFIX: Final = "<ipython-input-"
TASK_PREFIX: Final = "<ipython-task-"
_CELL_NAME: Final = re.compile(r"<ipython-(input|task)-(\d+)-\w+>")
_CELL_REFERENCE: Final = re.compile(r'File "<ipython-(input|task)-(\d+)-\w+>"')

_CORE_FOLDER: Final = os.path.dirname(os.path.abspath(__file__))


_SESSION_FILE: Final = os.path.join(_CORE_FOLDER, "interpreter.py")


def _library_folders() -> tuple[str, ...]:
    from importlib.util import find_spec

    spec = find_spec("IPython")  # found, not imported: clients use this module too
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return tuple(os.path.join(folder, "") for folder in folders)


_COMPILERS: Final = (os.path.join("core", "compilerop.py"), "codeop.py")
_IPYTHON_FOLDERS: Final = _library_folders()


class Place(NamedTuple):
    """Where a frame is: its code, and the line in its file (1-based; 0 if unknown)."""

    code: CodeType
    line: int


def is_cell(filename: str) -> bool:
    """Return whether this is the file name of a command's or task's source text."""
    return filename.startswith((CELL_PREFIX, TASK_PREFIX))


def is_core(filename: str) -> bool:
    """Return whether a file is one of this package's modules (not of its tests)."""
    return os.path.dirname(filename) == _CORE_FOLDER


def is_internal(filename: str) -> bool:
    """Return whether a file belongs to the interpreter around user code."""
    return is_core(filename) or filename.startswith(_IPYTHON_FOLDERS)


def _hidden(frame: FrameType) -> bool:
    return is_internal(frame.f_code.co_filename) or _hides_itself(frame)


def _hides_itself(frame: FrameType) -> bool:
    if "__tracebackhide__" not in frame.f_code.co_varnames:
        return False
    return bool(frame.f_locals.get("__tracebackhide__", False))


def visible_places(tb: TracebackType | None) -> list[Place]:
    """Return the user's frames of a traceback, outermost first.

    If there are no user frames, return all frames; but return none if the source did not compile, or if a frame hides
    itself, which means that the error message is sufficient.
    """
    everything: list[Place] = []
    shown: list[Place] = []
    enough = False
    while tb is not None:
        place = Place(tb.tb_frame.f_code, tb.tb_lineno or 0)
        everything.append(place)
        if not _hidden(tb.tb_frame):
            shown.append(place)
        enough = enough or _hides_itself(tb.tb_frame)
        tb = tb.tb_next
    if shown or enough or not everything or everything[-1].code.co_filename.endswith(_COMPILERS):
        return shown
    return everything


def user_line(tb: TracebackType | None) -> str:
    """Return the user's line at which an exception was raised, as ``work.py, line 12: return 1 / x``.

    That is the innermost line that is not in a library, or where a package that is installed was called; empty if there
    is neither.
    """
    shown: list[Place] = []
    while tb is not None:
        code = tb.tb_frame.f_code
        if not _hidden(tb.tb_frame) and not _is_ours(code.co_filename):
            shown.append(Place(code, tb.tb_lineno or 0))
        tb = tb.tb_next
    python, packages = _installed()
    outside = [place for place in shown if not _is_in(place, python) or _is_in(place, packages)]
    own = [place for place in outside if not _is_in(place, packages)]
    if not outside:
        return ""
    code, number = own[-1] if own else outside[0]
    filename = code.co_filename
    where = place_name(filename) if is_cell(filename) else os.path.basename(filename)
    if os.path.basename(os.path.dirname(filename)).startswith("ipykernel_"):
        where = "a cell"  # whose file is named by a number that nobody knows
    source = linecache.getline(filename, number).strip()
    return f"{where}, line {number}: {clip(source, _MAX_LINE)}".removesuffix(": ")


_OURS: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_TESTS: Final = f"{os.sep}tests{os.sep}"


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS) and _TESTS not in filename


def _is_in(place: Place, folders: tuple[str, ...]) -> bool:
    return place.code.co_filename.startswith(folders)


@cache
def _installed() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the folders of Python's own modules, and those of installed packages, which may be inside the former."""
    found = [
        tuple({os.path.join(sysconfig.get_path(name), "") for name in names})
        for names in (("stdlib", "platstdlib"), ("purelib", "platlib"))
    ]
    return ("<frozen ", *found[0]), found[1]


def stack_places(frame: FrameType | None) -> list[Place] | None:
    """Return the user's frames of a running stack, outermost first; None if the session is idle.

    User code begins below the outermost frame of the session; if there is a frame of a command's or task's source
    text, it begins at the first of these.
    """
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    for index, each in enumerate(frames):
        if each.f_code.co_filename == _SESSION_FILE:
            places = [Place(f.f_code, f.f_lineno or 0) for f in frames[index:] if not _hidden(f)]
            texts = [n for n, place in enumerate(places) if is_cell(place.code.co_filename)]
            return places[texts[0] :] if texts else places
    return None


def coroutine_places(coroutine: object) -> list[Place]:
    """Return the user's frames of a suspended coroutine and of those it awaits, outermost first."""
    places: list[Place] = []
    seen = 0
    while coroutine is not None and seen < 1000:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and not _hidden(frame):
            places.append(Place(frame.f_code, frame.f_lineno or 0))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        seen += 1
    return places


def place_name(filename: str) -> str:
    """Return ``Cell In[3]`` for a command's source, ``Task`` for a task's, ``File ~/x.py`` for files."""
    match = _CELL_NAME.fullmatch(filename)
    if match:
        return f"Cell In[{match[2]}]" if match[1] == "input" else "Task"
    home = os.path.expanduser("~")
    if home != "~" and filename.startswith(home + os.sep):
        filename = "~" + filename[len(home) :]
    return f"File {filename}"


def _title(place: Place) -> str:
    code = place.code
    where = place_name(code.co_filename)
    title = f"{where}, line {place.line}" if is_cell(code.co_filename) else f"{where}:{place.line}"
    if code.co_name == "<module>":
        return title
    count = code.co_argcount + code.co_kwonlyargcount
    if code.co_name.startswith("<"):
        return f"{title}, in {code.co_name}"
    return f"{title}, in {code.co_name}({', '.join(code.co_varnames[:count])})"


def _format_place(place: Place, context: int) -> str:
    code = place.code
    lines = linecache.getlines(code.co_filename)
    text = [_title(place)]
    if 0 < place.line <= len(lines):
        begin = place.line - context
        if code.co_name != "<module>":
            begin = max(begin, code.co_firstlineno)
        for number in range(max(begin, 1), min(place.line + context, len(lines)) + 1):
            if not lines[number - 1]:
                # Maybe only some functions of a text are known; every known line has an end.
                break
            label = str(number)
            if number == place.line:
                label = "-" * max(5 - len(label), 0) + "> " + label
            text.append(f"{label:>7} {lines[number - 1].rstrip()}".rstrip())
    return "\n".join(text)


def _grouped(places: Sequence[Place]) -> Iterator[tuple[Place, int]]:
    """Group consecutive equal places, as (place, count)."""
    previous: Place | None = None
    count = 0
    for place in places:
        if place == previous:
            count += 1
            continue
        if previous is not None:
            yield previous, count
        previous, count = place, 1
    if previous is not None:
        yield previous, count


def format_places(places: Sequence[Place], context: int = CONTEXT_LINES) -> str:
    """Format frames with their source lines, one paragraph each; recursion and deep stacks are shortened."""
    parts: list[str] = []
    groups = list(_grouped(places))
    skipped = len(groups) - MAX_FRAMES
    for index, (place, count) in enumerate(groups):
        if skipped > 0 and index == _HEAD_FRAMES:
            parts.append(f"    [... skipping {skipped} frames]")
        if skipped > 0 and _HEAD_FRAMES <= index < _HEAD_FRAMES + skipped:
            continue
        parts.append(_format_place(place, context))
        parts.extend(_format_place(place, context) for _ in range(min(count, _REPEATS) - 1))
        if count > _REPEATS:
            name = place.code.co_name
            parts.append(
                f"    [... skipping similar frames: {name} at line {place.line} ({count - _REPEATS} times)]"
            )
    return "\n\n".join(parts)


def _message_lines(exc: BaseException, ename: str, evalue: str) -> list[str]:
    """Return the last lines of a traceback: source and caret for syntax errors, type and message, notes."""
    if isinstance(exc, SyntaxError):
        try:
            _add_source_line(exc)
            text = "".join(traceback.format_exception_only(type(exc), exc)).rstrip("\n")
        except BaseException:
            pass
        else:
            return _name_cells(text).split("\n")
    lines = [f"{ename}: {evalue}" if evalue else ename]
    try:
        notes = exc.__notes__
        lines.extend(str(note) for note in notes)
    except BaseException:  # there are no notes, or they are not strings
        pass
    return lines


def _add_source_line(exc: SyntaxError) -> None:
    """Add the source line to errors found after parsing (``return`` outside a function), which have only its number."""
    if exc.text is None and isinstance(exc.filename, str) and isinstance(exc.lineno, int):
        exc.text = linecache.getline(exc.filename, exc.lineno) or None


def _name_cells(text: str) -> str:
    def name(match: re.Match[str]) -> str:
        return f"Cell In[{match[2]}]" if match[1] == "input" else "Task"

    return _CELL_REFERENCE.sub(name, text)


def _format_one(exc: BaseException, ename: str, evalue: str) -> str:
    message = "\n".join(_message_lines(exc, ename, evalue))
    if ename == "UsageError":  # of a magic: the message is sufficient
        return message
    places = visible_places(exc.__traceback__)
    if isinstance(exc, SyntaxError) and is_cell(str(exc.filename)):
        places = []  # the command itself is invalid, and none of it ran
    header = f"{_RULE}\n{ename:<42}Traceback (most recent call last)"
    if not places:
        return f"{header}\n{message}"
    return f"{header}\n{format_places(places)}\n\n{message}"


def _chain(exc: BaseException) -> Iterable[tuple[BaseException, str]]:
    """Yield an exception and its causes or contexts in turn, each with the sentence that links it to the previous."""
    seen: set[int] = set()
    current: BaseException | None = exc
    sentence = ""
    while current is not None and id(current) not in seen and len(seen) < _MAX_CHAIN:
        seen.add(id(current))
        yield current, sentence
        if current.__cause__ is not None:
            current = current.__cause__
            sentence = "The above exception was the direct cause of the following exception:"
        elif not current.__suppress_context__:
            current = current.__context__
            sentence = "During handling of the above exception, another exception occurred:"
        else:
            current = None


def _format_group(exc: BaseException) -> str:
    """Format an exception group as Python does, because only this form can show a tree."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None and _hidden(tb.tb_frame):
        tb = tb.tb_next
    return _name_cells("".join(traceback.format_exception(type(exc), exc, tb)).rstrip("\n"))


def format_exception(exc: BaseException, ename: str, evalue: str) -> str:
    """Format the whole traceback of an exception, with its causes and contexts.

    :param ename: the name of the exception's type.
    :param evalue: its message.
    :raises BaseException: anything that the user's classes raise; see :func:`ipython1.core.failures.record_exception`.
    """
    links = list(_chain(exc))
    if any(isinstance(link, BaseExceptionGroup) for link, _ in links):
        return shorten(_format_group(exc), MAX_TEXT)
    parts: list[str] = []
    for link, sentence in reversed(links):
        if link is exc:
            parts.append(_format_one(exc, ename, evalue))
        else:
            parts.append(_format_one(link, type_name(link), message_of(link)))
        if sentence:
            parts.append(sentence)
    return shorten("\n\n".join(parts), MAX_TEXT)
