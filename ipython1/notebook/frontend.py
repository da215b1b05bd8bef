"""At what a person sits: a notebook, a terminal with IPython, Python's own prompt, or nothing at all."""

from __future__ import annotations

import enum
import sys
import threading
from typing import Any


class FrontEnd(enum.Enum):
    """What shows the output of this process to a person who waits for it."""

    NONE = "none"
    """Nobody waits: a script, a test, an engine."""

    PROMPT = "prompt"
    """Python's own prompt."""

    TERMINAL = "terminal"
    """IPython in a terminal."""

    NOTEBOOK = "notebook"
    """A notebook, or another front end that shows HTML."""


def session_shell() -> Any:
    """The IPython shell of the session in this process; None where there is none, and on an engine."""
    module = sys.modules.get("IPython.core.interactiveshell")
    if module is None or not module.InteractiveShell.initialized():
        return None
    shell = module.InteractiveShell._instance
    # An engine's shell is for its own commands, not for what a program on the engine prints.
    return None if type(shell).__module__.startswith("ipython1.") else shell


def front_end() -> FrontEnd:
    """What a person sits at."""
    shell = session_shell()
    if shell is not None:
        return FrontEnd.NOTEBOOK if hasattr(shell, "kernel") else FrontEnd.TERMINAL
    if "IPython.core.interactiveshell" not in sys.modules and hasattr(sys, "ps1"):
        return FrontEnd.PROMPT
    return FrontEnd.NONE


def person_waits() -> bool:
    """Whether somebody sits at a prompt until the present call returns."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and front_end() is not FrontEnd.NONE


def present_moment() -> object:
    """The same thing as long as one input of the session runs, and then never again; None without IPython."""
    shell = session_shell()
    return None if shell is None else shell.execution_count


def name_of(value: object, otherwise: str) -> str:
    """The name under which the session's user knows ``value``."""
    shell = session_shell()
    if shell is not None:
        for name, other in list(shell.user_ns.items()):
            if other is value and isinstance(name, str) and not name.startswith("_"):
                return name
    return otherwise
