"""Detects the front end: a notebook, IPython in a terminal, Python's own prompt, or none."""

from __future__ import annotations

import enum
import sys
import threading
from typing import Any


class FrontEnd(enum.Enum):
    """The front end that shows this process's output to a waiting user."""

    NONE = "none"
    """No user is waiting: a script, a test, an engine."""

    PROMPT = "prompt"
    """Python's own prompt."""

    TERMINAL = "terminal"
    """IPython in a terminal."""

    NOTEBOOK = "notebook"
    """A notebook, or another front end that shows HTML."""


def session_shell() -> Any:
    """Return the IPython shell of the session in this process; None if there is none, and on engines."""
    module = sys.modules.get("IPython.core.interactiveshell")
    if module is None or not module.InteractiveShell.initialized():
        return None
    shell = module.InteractiveShell._instance
    # An engine's shell is for its own commands, not for what programs on the engine print.
    return None if type(shell).__module__.startswith("ipython1.") else shell


def front_end() -> FrontEnd:
    """Return the front end of this process."""
    shell = session_shell()
    if shell is not None:
        return FrontEnd.NOTEBOOK if hasattr(shell, "kernel") else FrontEnd.TERMINAL
    # hasattr() would make the text of an error that nobody sees, for each call of a client.
    if "ps1" in vars(sys) and "IPython.core.interactiveshell" not in sys.modules:
        return FrontEnd.PROMPT
    return FrontEnd.NONE


def person_waits() -> bool:
    """Return whether a user at a prompt is waiting for the current call."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and front_end() is not FrontEnd.NONE


def present_moment() -> object:
    """Return an object that identifies the input that is now running in the session; None without IPython."""
    shell = session_shell()
    return None if shell is None else shell.execution_count


def name_of(value: object, otherwise: str) -> str:
    """Return the user's name for ``value`` in the session's namespace.

    :param otherwise: the result if there is no such name.
    """
    shell = session_shell()
    if shell is not None:
        for name, other in list(shell.user_ns.items()):
            if other is value and isinstance(name, str) and not name.startswith("_"):
                return name
    return otherwise
