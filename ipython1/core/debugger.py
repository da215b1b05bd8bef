"""The debugger of an engine: IPython's, with a desk in place of a keyboard and a screen.

User code stops in the main thread; who answers the prompt sits elsewhere, and comes to the :class:`Desk`.
"""

from __future__ import annotations

import bdb
import cmd
import dis
import inspect
import os
import pdb  # noqa: T100  # what user code may call is replaced
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Protocol

from IPython.core.debugger import CHAIN_EXCEPTIONS, Pdb

from ipython1.core.tracebacks import is_internal

_MACHINERY: Final = frozenset(map(inspect.getfile, (bdb, cmd, pdb)))
"""Files that a step goes through when it meets a breakpoint."""

_OWN_NAMES: Final = ("__return__", "__exception__", "__pdb_convenience_variables")
"""What ``pdb`` sets in the namespace of a frame."""

PROMPT: Final = "ipdb> "

MOST_TEXT: Final = 200_000
"""Characters that are shown at one prompt; of more, the last ones."""


class NoDebugger(RuntimeError):
    """Nobody could answer a debugger's prompt here."""


class OutputSource(Protocol):
    """Gives what user code has written and not yet shown."""

    @property
    def peeked_in(self) -> int: ...

    def peek(self) -> tuple[str, str]: ...


class Desk:
    """Where the prompts of a debugger and the lines that answer them meet.

    =========  ===========================  ========  ==============================================
    state      event                        becomes   what happens
    =========  ===========================  ========  ==============================================
    nothing    :meth:`open`                 runs
    runs       :meth:`readline`             waits     ``changed`` is called
    waits      :meth:`put`                  runs      :meth:`readline` returns
    waits      an interrupt                 runs      ``KeyboardInterrupt`` in :meth:`readline`
    runs       :meth:`close`                nothing   ``changed`` is called
    =========  ===========================  ========  ==============================================

    It is open until the command that stopped is done, so that its next stop is known to who answered the last prompt.
    The main thread opens, reads, writes and closes; any thread may do the rest.

    :ivar changed: called in the main thread when there is a prompt, and when the desk is closed.
    :ivar attended: whether somebody sits at it, so that nobody has to be called.
    :ivar where: what is debugged, for people.
    :ivar post_mortem: whether that is over already.
    :ivar stops: counts the prompts and closings; who has seen one number knows of everything up to it.
    """

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.attended: bool = False
        self.where: str = ""
        self.post_mortem: bool = False
        self.stops: int = 0
        self._open = False
        self._waits = False
        self._lines: list[str] = []
        self._text: list[str] = []
        self._shown = ""
        self._answered = threading.Condition()

    @property
    def is_open(self) -> bool:
        """Whether something is debugged."""
        return self._open

    @property
    def waits(self) -> bool:
        """Whether there is a prompt that nobody has answered."""
        return self._waits

    def waiting_at(self) -> str:
        """Where a prompt waits that nobody has answered; empty if there is none."""
        return self.where if self._waits else ""

    @property
    def shown(self) -> str:
        """What was written since the last line, with the prompt at its end; the last words once it is closed."""
        return self._shown

    def put(self, line: str) -> None:
        """Answer the prompt; an empty text without a line's end means that nobody will answer any more."""
        with self._answered:
            self._waits = False
            self._lines.append(line)
            self._answered.notify()

    # -- the main thread

    def open(self, where: str, post_mortem: bool) -> None:
        """Debug something, perhaps the next place in the same command."""
        self.where, self.post_mortem = where, post_mortem
        if not self._open:
            self._text.clear()
            self._lines.clear()
            self._open = True

    def close(self) -> None:
        """It is over."""
        if not self._open:
            return
        self._open = self._waits = False
        self._show()
        self.changed()

    def write(self, text: str) -> int:
        """Show something at the next prompt."""
        self._text.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: what is written is shown at the next prompt."""

    def readline(self) -> str:
        """Wait for the line that answers what was written last.

        :raises KeyboardInterrupt: if the command is interrupted.
        """
        self._show()
        try:
            with self._answered:
                self._waits = True
            self.changed()
            with self._answered:
                self._answered.wait_for(lambda: self._lines)
                return self._lines.pop(0)
        finally:
            self._waits = False

    def _show(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        self._shown = text if len(text) <= MOST_TEXT else "...\n" + text[-MOST_TEXT:]
        self.stops += 1


class SharedOutput:
    """Output of user code that is shown live, and at the prompts of a debugger too.

    :param source: gives each piece once.
    """

    def __init__(self, source: OutputSource, desk: Desk) -> None:
        self._source = source
        self._desk = desk
        self._lock = threading.Lock()
        self._left = ("", "")
        self.unneeded: str = ""
        """A text that is not for those who debug."""

    def peek(self) -> tuple[str, str]:
        """See :class:`OutputSource`."""
        with self._lock:
            out, err = self._source.peek()
            if self._desk.is_open:
                self._show(out + err)
            (more_out, more_err), self._left = self._left, ("", "")
            return more_out + out, more_err + err

    @property
    def peeked_in(self) -> int:
        """See :class:`OutputSource`."""
        return self._source.peeked_in

    def bring(self) -> None:
        """Have the next prompt show what was written until now."""
        with self._lock:
            out, err = self._source.peek()
            self._show(out + err)
            self._left = (self._left[0] + out, self._left[1] + err)

    def _show(self, text: str) -> None:
        if text:
            self._desk.write(text.replace(self.unneeded, "") if self.unneeded else text)

    def forget(self) -> None:
        """A command is done, and its result has what it wrote."""
        with self._lock:
            self._left = ("", "")


class EnginePdb(Pdb):
    """IPython's debugger at a desk.

    It stops in user code only, and ends with the command that it stopped.

    :param outermost: the frame in which that command's user code begins; None after its end.
    """

    def __init__(
        self, desk: Desk, bring_output: Callable[[], None], outermost: FrameType | None = None
    ) -> None:
        super().__init__(stdin=desk, stdout=desk, nosigint=True)
        self.prompt: str = PROMPT
        self._bring_output = bring_output
        self._outermost = outermost
        self._interrupt: KeyboardInterrupt | None = None
        self._namespace: dict[str, Any] = {} if outermost is None else outermost.f_globals
        self.report_skipped: bool = False

    def interaction(self, frame: Any, tb_or_exc: Any) -> None:
        self._bring_output()
        super().interaction(frame, tb_or_exc)
        if self._interrupt is not None:
            raise self._interrupt

    def _cmdloop(self) -> None:
        try:
            self.cmdloop()
        except KeyboardInterrupt as interrupt:
            self._interrupt = interrupt  # it is for the command, and is kept from it by IPython
            raise

    def hidden_frames(self, stack: Any) -> list[bool]:
        frames = [frame for frame, _ in stack]
        first = frames.index(self._outermost) if self._outermost in frames else 0
        hidden = super().hidden_frames(stack)
        return [
            index < first or hides or is_internal(frame.f_code.co_filename)
            for index, (frame, hides) in enumerate(zip(frames, hidden, strict=True))
        ]

    def stop_here(self, frame: FrameType) -> bool:
        filename = frame.f_code.co_filename
        if is_internal(filename) or filename in _MACHINERY:
            return False
        return bool(super().stop_here(frame))

    def dispatch_return(self, frame: FrameType, arg: Any) -> Any:
        traced = super().dispatch_return(frame, arg)
        if frame is not self._outermost or _is_suspended(frame):
            return traced
        self._outermost = None
        self.clear_all_breaks()
        self.set_continue()
        sys.settrace(None)
        return None

    def clean_up(self) -> None:
        """Trace nothing any more, and remove what the debugger has put among the user's names."""
        if getattr(sys.gettrace(), "__self__", None) is self:
            self.clear_all_breaks()
            sys.settrace(None)
        for name in _OWN_NAMES:
            self._namespace.pop(name, None)

    def do_interact(self, arg: str) -> None:
        """Say that there is no such thing here."""
        self.message("interact does not work on an engine; type Python statements at this prompt")


class EngineDebugger:
    """Stops user code for a debugger, in the main thread.

    :param source: the output of user code.
    :param attended: whether the command that runs is of somebody who could answer a prompt.
    :ivar output: the same output, for those who show it while the command runs.
    """

    def __init__(self, source: OutputSource, attended: Callable[[], bool]) -> None:
        self.desk: Desk = Desk()
        self.output: SharedOutput = SharedOutput(source, self.desk)
        self._attended = attended
        self._debugger: EnginePdb | None = None
        self._pid = os.getpid()
        self.name: str = "this engine"
        self.call: str = "debug()"
        """What opens the debugger, as people type it."""

    def install(self, shell: Any) -> None:
        """Make ``breakpoint()``, ``pdb.set_trace()`` and ``%debug`` stop here."""
        sys.breakpointhook = self._breakpoint
        pdb.set_trace = self._set_trace
        shell.InteractiveTB.debugger_cls = self._for_magic

    def _breakpoint(self, *args: Any, **kwargs: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT"):
            return sys.__breakpointhook__(*args, **kwargs)  # noqa: T100
        return self._stop(sys._getframe(1))

    def _set_trace(self, *, header: str | None = None, **options: Any) -> None:
        self._stop(sys._getframe(1), header)

    def _stop(self, frame: FrameType, header: str | None = None) -> None:
        __tracebackhide__ = True
        self._check("breakpoint()")
        if self._debugger is None or not self.desk.is_open:
            self._debugger = EnginePdb(self.desk, self.output.bring, _outermost(frame))
        self._open(f"a breakpoint: {_place(frame, frame.f_lineno)}", False)
        if header is not None:
            self._debugger.message(header)
        self._debugger.set_trace(frame)

    def command_ended(self) -> None:
        """The command that was debugged is done, and its result has all that it wrote."""
        if self._debugger is not None:
            self._debugger.clean_up()
            self._debugger = None
        self.output.forget()
        self.desk.close()

    def post_mortem(self) -> None:
        """Look at the last exception of a command.

        :raises NoDebugger: if there was none.
        """
        error = getattr(sys, "last_value", None)
        if error is None:
            raise NoDebugger(f"no command has raised an exception on {self.name}")
        self._check("debug()")
        self.desk.attended = True  # whoever has asked for it comes
        debugger = self._for_magic()
        debugger.reset()
        debugger.interaction(None, error if CHAIN_EXCEPTIONS else error.__traceback__)

    def last_error(self) -> str:
        """What :meth:`post_mortem` would show, for people; empty if there is nothing."""
        kind = getattr(sys, "last_type", None)
        return "" if kind is None else str(getattr(kind, "__name__", "exception"))

    def _for_magic(self) -> EnginePdb:
        """For IPython's ``%debug``."""
        self._check("%debug")
        place = _place_of_error(getattr(sys, "last_traceback", None))
        self._open(f"the end of {self.last_error()}{place}", True)
        return EnginePdb(self.desk, self.output.bring)

    def _check(self, what: str) -> None:
        """:raises NoDebugger: if a prompt would wait for ever."""
        __tracebackhide__ = True
        if os.getpid() != self._pid:
            raise NoDebugger(f"{what} does not work in a process that an engine's code has forked")
        if threading.current_thread() is not threading.main_thread():
            raise NoDebugger(f"{what} works only in the main thread of an engine")
        if not self._attended():
            raise NoDebugger(
                f"{what} works on an engine only in commands of somebody at a prompt who can answer it, such as "
                "execute, apply or %px there, and not in tasks"
            )
        if self.desk.is_open and self.desk.post_mortem:
            raise NoDebugger(f"{what} does not work at the prompt of a debugger")

    def _open(self, where: str, post_mortem: bool) -> None:
        self.desk.open(where, post_mortem)
        if self.desk.attended:
            return
        text = f"{self.name} waits at {where}\nGo on with {self.call}, after Ctrl-C if you wait for the command.\n"
        self.output.unneeded = text
        sys.stderr.write(text)


def _outermost(frame: FrameType) -> FrameType:
    """The frame in which the user code around a frame begins."""
    outermost = frame
    around: FrameType | None = frame
    while around is not None and not is_internal(around.f_code.co_filename):
        outermost = around
        around = around.f_back
    return outermost


def _is_suspended(frame: FrameType) -> bool:
    """Whether a frame that seems to return only waits, as a coroutine does at ``await``, and goes on later."""
    code = frame.f_code
    if not code.co_flags & (
        inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    ):
        return False
    # From Python 3.13 on, such a frame is already at the instruction with which it goes on.
    return code.co_code[frame.f_lasti] in (dis.opmap["YIELD_VALUE"], dis.opmap["RESUME"])


def _place(frame: FrameType, line: int) -> str:
    code = frame.f_code
    name = "" if code.co_name == "<module>" else f"{code.co_name}() in "
    return f"{name}{code.co_filename}, line {line}"


def _place_of_error(tb: TracebackType | None) -> str:
    if tb is None:
        return ""
    while tb.tb_next is not None:
        tb = tb.tb_next
    return f" in {_place(tb.tb_frame, tb.tb_lineno)}"
