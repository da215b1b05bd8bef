"""How IPython shows the kernel's errors: the user's own lines, then the message, without the kernel's internals.

The traceback itself is cut after the user's last line, so that ``%debug`` stops there too.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

from ipython1.notebook.frontend import session_shell

_OURS: Final = os.path.join(str(Path(__file__).absolute().parents[2]), "")
_TESTS: Final = os.sep + "tests" + os.sep


def render_error(
    error: BaseException, tracebacks: Callable[[], Iterable[tuple[str, str]]] = tuple
) -> list[str]:
    """Return what IPython's ``_render_traceback_`` returns: one string, in the colours and mode of the session.

    :param tracebacks: returns pairs of a label and an engine's traceback, which are added in ``Verbose`` mode.
    """
    cut_at_user(error)
    shell = session_shell()
    if shell is None:
        return ["".join(traceback.format_exception(error)).rstrip("\n")]
    # The session's formatter would also show the error's cause and context, so give it a copy without them.
    stand_in = type(type(error).__name__, (Exception,), {"__module__": "builtins"})(str(error))
    formatter = shell.InteractiveTB
    text = "\n".join(formatter.structured_traceback(type(stand_in), stand_in, error.__traceback__))
    if getattr(formatter, "mode", "") == "Verbose":
        text = "\n\n".join([text, *(f"{label}:\n{each}" for label, each in tracebacks())])
    return [text]


def render_in_one_line(error: BaseException) -> list[str]:
    """Return the display of an error that concerns no line of the user's; a program's traceback is shown as usual."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    of_user = [each for each in frames if not _is_ours(each) and not _is_of_ipython(each)]
    if session_shell() is None or len(of_user) > 1:
        return render_error(error)
    cut_at_user(error)
    return [f"{type(error).__name__}: {error}"]


def cut_at_user(error: BaseException) -> None:
    """Cut the traceback where the user's code calls the kernel; a traceback without user code is kept whole."""
    last_of_user: TracebackType | None = None
    entry = error.__traceback__
    while entry is not None and not _is_ours(entry.tb_frame):
        if not _is_of_ipython(entry.tb_frame):
            last_of_user = entry
        entry = entry.tb_next
    if last_of_user is not None and entry is not None:
        last_of_user.tb_next = None


def cut_at_method(error: BaseException) -> None:
    """Cut the traceback after its first frame, that of a method of ours, unless code of the user's was called in it."""
    first = error.__traceback__
    entry = None if first is None else first.tb_next
    while entry is not None:
        if not _is_ours(entry.tb_frame):
            return
        entry = entry.tb_next
    if first is not None:
        first.tb_next = None


def _is_ours(frame: FrameType) -> bool:
    filename = frame.f_code.co_filename
    return filename.startswith(_OURS) and _TESTS not in filename[len(_OURS) - 1 :]


def _is_of_ipython(frame: FrameType) -> bool:
    name: Any = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and (name == "IPython" or name.startswith("IPython."))
