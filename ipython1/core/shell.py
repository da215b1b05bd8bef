"""IPython's InteractiveShell for engines: without files, a history database, threads or a terminal."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import IPython
from IPython.core import formatters
from IPython.core.application import ProfileDir
from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.display_trap import DisplayTrap
from IPython.core.interactiveshell import InteractiveShell
from IPython.paths import get_ipython_dir
from traitlets import default
from traitlets.config import Config

from ipython1.core.display import CapturingHook, CapturingPublisher, DisplaySink
from ipython1.core.failures import record_exception
from ipython1.core.programs import run_program
from ipython1.core.sources import EngineCompiler, SourceRegister
from ipython1.core.stacks import awaiting
from ipython1.core.texts import type_name
from ipython1.core.tracebacks import CELL_PREFIX

if TYPE_CHECKING:  # slow to import, and most sessions need them late or never
    import asyncio
    import tempfile

_CANCEL_GRACE: Final = 1.0
"""Seconds that an interrupted ``await`` may take to clean up."""

_ENVIRONMENT: Final = {
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # Live displays of rich are drawn while they run, as what draws them again is understood (see capture).
    "TTY_COMPATIBLE": "1",
}
"""Environment variables for user code and the programs it starts, unless they are already set."""


class _PermanentBuiltins(BuiltinTrap):
    """Installs IPython's additions to the builtins once, as this process is always an IPython session."""

    def __enter__(self) -> _PermanentBuiltins:
        return self

    def __exit__(self, *args: object) -> Literal[False]:
        return False


class _PermanentHook(DisplayTrap):
    """Sets the display hook once.

    IPython counts how many times it is entered, and an abandoned coroutine that exits much later would break this.
    """

    def __enter__(self) -> _PermanentHook:
        return self

    def __exit__(self, *args: object) -> Literal[False]:
        return False

    @property
    def is_active(self) -> bool:
        return True


class EngineShell(InteractiveShell):
    """The shell of an engine, created by :func:`open_shell`.

    ``execution_count`` is the number of the next command, even while a command is running.

    :ivar shown: exceptions that IPython would have shown without ending the command (a script run with ``%run``).
    :ivar translated: the Python code for the latest input; None until it is known.
    """

    compile: Any
    display_pub: Any
    displayhook: Any
    history_manager: Any

    execution_count = 1  # instead of a trait, which costs more than running a short command

    def __init__(self, **kwargs: Any) -> None:
        self.sink: DisplaySink = DisplaySink()
        self.shown: list[BaseException] = []
        self.translated: str | None = None
        self._format_problems: list[BaseException] = []
        self._added_environment: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        super().__init__(**kwargs)
        self._module_names = {
            name: self.user_ns[name] for name in _MODULE_NAMES if name in self.user_ns
        }
        if self._temporary is not None:
            # It is no longer used, and a killed process could not remove it.
            self._temporary.cleanup()

    # -- what IPython sets up and an engine does not need -----------------------------------------------------------

    def init_ipython_dir(self, ipython_dir: str | None) -> None:
        folder = os.environ.get("IPYTHONDIR") or os.path.expanduser("~/.ipython")
        if os.path.isdir(folder):  # IPython's own lookup would create it
            self.ipython_dir: str = get_ipython_dir()

    def init_profile_dir(self, profile_dir: object) -> None:
        if IPython.version_info[0] < 9:
            # They open their key-value store in this folder, before it can be replaced.
            import tempfile

            self._temporary = tempfile.TemporaryDirectory(prefix="ipython1-")
            self.profile_dir: ProfileDir = ProfileDir.create_profile_dir(self._temporary.name)

    def init_virtualenv(self) -> None:
        """Do nothing: an engine runs in the Python that it was started with."""

    def init_environment(self) -> None:
        for name, value in _ENVIRONMENT.items():
            if name not in os.environ:
                os.environ[name] = value
                self._added_environment.append(name)

    def init_builtins(self) -> None:
        super().init_builtins()
        self.builtin_trap: _PermanentBuiltins = _PermanentBuiltins(shell=self)
        self.builtin_trap.activate()

    def init_hooks(self) -> None:
        super().init_hooks()
        self.set_hook("show_in_pager", _print_page, 99)

    def init_instance_attrs(self) -> None:
        super().init_instance_attrs()
        self.compile.register = SourceRegister(CELL_PREFIX, self.cache_size)
        self.compile.number = lambda: self.execution_count - 1

    def init_display_pub(self) -> None:
        super().init_display_pub()
        self.display_pub.sink = self.sink

    def init_displayhook(self) -> None:
        super().init_displayhook()
        self.displayhook.sink = self.sink
        self.display_trap: _PermanentHook = _PermanentHook(hook=self.displayhook)
        self.display_trap.set()
        self.displayhook._is_plain(int)  # records the formatters before the user can change them

    @default("loop_runner")
    def _engine_loop_runner(self) -> Any:
        return self.run_coroutine

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Do nothing: IPython would keep all output forever."""
        yield

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing: an engine has no GUI event loop."""

    def ask_exit(self) -> NoReturn:
        raise SystemExit("exit() does not stop an engine; use a client's kill() method")

    def atexit_operations(self) -> None:
        """Clean up when the process exits: only temporary files need it."""
        for path in list(self.tempfiles):
            with suppress(OSError):
                path.unlink()

    # -- commands ---------------------------------------------------------------------------------------------------

    def transform_cell(self, raw_cell: str) -> str:
        cell: str = super().transform_cell(raw_cell)
        if self.translated is None:
            self.translated = cell
            self.history_manager.input_hist_parsed[-1] = cell.rstrip("\n")
        return cell

    async def run_code(self, code_obj: Any, result: Any = None, *, async_: bool = False) -> bool:
        """Run one statement of a cell and return whether it failed.  Unlike in IPython, nothing is printed."""
        __tracebackhide__ = "__ipython_bottom__"
        try:
            if async_:
                await eval(code_obj, self.user_global_ns, self.user_ns)
            else:
                exec(code_obj, self.user_global_ns, self.user_ns)
        except self.custom_exceptions as exc:
            if result is not None:
                result.error_in_exec = exc
            self.CustomTB(*sys.exc_info())
            return True
        except BaseException as exc:
            if result is not None:
                result.error_in_exec = exc
            else:
                self.shown.append(exc)
            return True
        return False

    runcode = run_code

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run top-level ``await`` code on a loop that lives as long as the session.

        An interrupted coroutine is cancelled; otherwise it would continue during the next command that awaits.
        """
        import asyncio

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        loop = self._loop
        task = loop.create_task(coroutine)
        try:
            with awaiting(coroutine):
                return loop.run_until_complete(task)
        except KeyboardInterrupt as stop:
            if task.done():
                raise
            task.cancel()
            with suppress(BaseException):
                loop.run_until_complete(asyncio.wait([task], timeout=_CANCEL_GRACE))
            result: Any = None if not task.done() or task.cancelled() else task.result()
            cancelled = getattr(result, "error_in_exec", None)
            if not isinstance(cancelled, asyncio.CancelledError):
                raise
            # The interrupt hit the loop's own code, but the user wants to see where the coroutine was.
            result.error_in_exec = stop.with_traceback(cancelled.__traceback__)
            return result

    def run_ipython(self, source: str) -> BaseException | None:
        """Run a command through IPython and return the exception it raised, or None."""
        self.translated = None
        return self._run_cell_quietly(source, silent=False)

    def run_ipython_task(self, source: str, register: SourceRegister) -> BaseException | None:
        """Do the same for a task, whose text is added to ``register`` and whose last value is not displayed."""
        self.translated = source  # not needed, and not added to In
        usual, self.compile.register = self.compile.register, register
        try:
            return self._run_cell_quietly(source, silent=True)
        finally:
            self.compile.register = usual

    def _run_cell_quietly(self, source: str, *, silent: bool) -> BaseException | None:
        result = self.run_cell(source, store_history=False, silent=silent)
        error: BaseException | None = result.error_before_exec or result.error_in_exec
        result.error_before_exec = result.error_in_exec = None  # the shell keeps its last result
        if error is None:
            return None
        stopped = error.__context__
        if isinstance(stopped, KeyboardInterrupt) and type_name(error) == "CalledProcessError":
            return stopped.with_traceback(
                error.__traceback__
            )  # of a script magic, which reports it indirectly
        return error

    def take_problems(self) -> BaseException | None:
        """Return and forget the first exception shown while the command itself succeeded, or None.

        Errors in formatting an object are written to standard error, as its other representations are shown.
        """
        shown, self.shown = self.shown, []
        problems, self._format_problems = self._format_problems, []
        for problem in problems:
            print(record_exception(problem).traceback, file=sys.stderr)
        return shown[0] if shown else None

    def raise_problem(self, *, unless: bool) -> None:
        """Raise the error that prevented formatting a value, ``unless`` it could be shown in some way."""
        if self._format_problems and not unless:
            raise self._format_problems.pop()

    @property
    def has_problems(self) -> bool:
        """Return whether :meth:`take_problems` has anything to return."""
        return bool(self.shown or self._format_problems)

    def showtraceback(self, exc_tuple: Any = None, *args: object, **kwargs: object) -> None:
        """Record an exception instead of printing it; without one, print the last (``%tb``)."""
        value: BaseException | None = exc_tuple[1] if exc_tuple is not None else sys.exc_info()[1]
        if value is None:
            last = getattr(sys, "last_value", None)
            text = (
                "No traceback available to show."
                if last is None
                else record_exception(last).traceback
            )
            print(text)
        elif sys._getframe(1).f_code.co_filename == formatters.__file__:
            self._format_problems.append(value)
        else:
            self.shown.append(value)

    def showsyntaxerror(
        self, filename: str | None = None, running_compiled_code: bool = False
    ) -> None:
        """Like :meth:`showtraceback`."""
        self.showtraceback()

    def _showtraceback(self, etype: object, evalue: object, stb: list[str]) -> None:
        print("\n".join(stb))

    def _format_exception_for_storage(
        self, exception: BaseException, *args: object, **kwargs: object
    ) -> Any:
        """Do nothing: IPython would format each exception a second time."""
        return {"ename": type(exception).__name__, "evalue": "", "traceback": []}

    def system(self, cmd: str) -> None:
        """Run a shell command with the engine's output streams; its status becomes ``_exit_code``."""
        self.user_ns["_exit_code"] = run_program(self.var_expand(cmd, depth=1))

    system_piped = system_raw = system

    # -- the namespace ----------------------------------------------------------------------------------------------

    def reset(self, new_session: bool = True, aggressive: bool = False) -> None:
        """Clear the user's namespace.  Command numbers continue, and no full garbage collection is done."""
        namespace = self.user_ns
        self.displayhook.forget()
        self.last_execution_succeeded = True
        self.last_execution_result = None
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                delattr(sys, name)
        history = self.history_manager
        history.output_hist.clear()
        for kept in (history.input_hist_parsed, history.input_hist_raw):
            latest = min(len(kept) - 1, self.cache_size)  # older ones are already empty
            kept[len(kept) - latest :] = [""] * latest
        namespace.clear()
        namespace.update(self._module_names)
        self.user_ns_hidden.clear()
        self.init_user_ns()
        namespace.update({"_": "", "__": "", "___": ""})
        self.compile.reset_compiler_flags()
        self.clear_main_mod_cache()

    def close(self) -> None:
        """Undo the shell's changes to the process; it cannot be used afterwards."""
        import atexit

        atexit.unregister(self.atexit_operations)
        self.atexit_operations()
        if self._loop is not None:
            self._loop.close()
        self.display_trap.unset()
        self.builtin_trap.deactivate()
        for name in self._added_environment:
            os.environ.pop(name, None)
        if self._orig_sys_modules_main_mod is not None:
            sys.modules[self._orig_sys_modules_main_name] = self._orig_sys_modules_main_mod
        for name in ("__IPYTHON__", "display"):
            builtins.__dict__.pop(name, None)
        for name in ("ps1", "ps2", "ps3"):
            if hasattr(sys, name):
                delattr(sys, name)
        type(self).clear_instance()


_MODULE_NAMES: Final = frozenset(
    ("__name__", "__doc__", "__package__", "__loader__", "__spec__", "__builtin__", "__builtins__")
)


def _print_page(
    shell: object, strng: Any, start: int = 0, screen_lines: int = 0, pager_cmd: str | None = None
) -> None:
    """Print what IPython would show in a pager."""
    text = strng.get("text/plain", "") if isinstance(strng, dict) else str(strng)
    print("\n".join(text.splitlines()[start:]))


def open_shell(history_size: int) -> EngineShell:
    """Create the process's only shell.

    :param history_size: how many inputs, values and source texts it keeps.
    :raises RuntimeError: if the process already has an IPython shell.
    """
    if InteractiveShell.initialized():
        raise RuntimeError(
            "this process already has an IPython shell; an engine's session needs its own process"
        )
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor" if IPython.version_info[0] >= 9 else "NoColor"
    config.InteractiveShell.cache_size = max(history_size, 3)
    config.InteractiveShell.autoindent = False
    shell: EngineShell = EngineShell.instance(
        config=config,
        compiler_class=EngineCompiler,
        displayhook_class=CapturingHook,
        display_pub_class=CapturingPublisher,
    )
    shell.db = {}
    return shell


def preload() -> None:
    """Import what IPython imports only when the first session is opened."""
    import IPython.core.completer
    import IPython.core.completerlib
    import IPython.core.magics
    import IPython.core.oinspect  # noqa: F401
