"""The magics ``%px``, ``%%px``, ``%autopx`` and ``%result``, which run code on the engines.

``%load_ext ipython1`` or :meth:`MultiEngineClient.activate` loads them; they use the client that was activated last.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.display import display

from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    KernelError,
    ResultNotCompleted,
)
from ipython1.kernel.calls.calls import Targets
from ipython1.kernel.calls.liveview import results_in
from ipython1.kernel.calls.resultlist import ResultList
from ipython1.kernel.calls.stacklist import NotFinished
from ipython1.kernel.clients.active import active
from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.notebook.frontend import FrontEnd, front_end

ANNOUNCEMENT: Final = "Executing command on Controller"

_OPTION: Final = re.compile(r"\s*--(?P<name>[A-Za-z]*)(?P<rest>.*)", re.DOTALL)
_VALUE: Final = re.compile(
    r"[=\s]\s*(?P<value>\[[^]]*\]|\([^)]*\)|[^\s\[(]\S*)(?P<rest>.*)", re.DOTALL
)
_SHOWABLE: Final = ("stdout", "stderr", "result", "display")

_OWN_MAGIC: Final = re.compile(
    r"\s*(%%?(px|autopx|result)\b|autopx\s*$|px\s+(?!(?:in|is|if|and|or|not|for|else)\b)[\w'\"{])"
)
"""Cells with this beginning are not sent to the engines while ``%autopx`` is on."""


@dataclass(frozen=True, slots=True)
class PxOptions:
    """The options of ``%px``.

    :ivar targets: the engines; None for the client's targets.
    :ivar noblock: whether to return a ``PendingResult``.
    :ivar local: whether to run the code here too, before the engines run it.
    :ivar timeout: seconds after which the wait ends with a report; None for no limit.
    """

    targets: Targets = None
    noblock: bool = False
    local: bool = False
    timeout: float | None = None


def parse_options(line: str, namespace: Mapping[str, Any]) -> tuple[PxOptions, str]:
    """Parse the options at the beginning of ``line``.

    :param namespace: the variables that ``--targets`` may name.
    :returns: the options and the rest of the line.
    :raises UsageError: if an option is unknown or its value is invalid.
    """
    options = PxOptions()
    while match := _OPTION.fullmatch(line):
        name, rest = match["name"], match["rest"]
        if name in ("noblock", "local"):
            if rest[:1].strip():
                raise UsageError(f"--{name} takes no value")
            options, line = replace(options, **{name: True}), rest
            continue
        if name not in ("targets", "timeout"):
            raise UsageError(
                f"unknown option --{name}; the options are --targets, --noblock, --local, --timeout"
            )
        value = _VALUE.fullmatch(rest)
        if value is None:
            raise UsageError(f"--{name} needs a value")
        line = value["rest"]
        if name == "targets":
            options = replace(options, targets=parse_targets(value["value"], namespace))
        else:
            options = replace(options, timeout=_parse_timeout(value["value"]))
    if options.noblock and options.timeout is not None:
        raise UsageError(
            "--timeout has no effect with --noblock, which does not wait; use one of them"
        )
    return options, line.lstrip(" \t")


def parse_targets(text: str, namespace: Mapping[str, Any]) -> Targets:
    """Parse targets: ``all``, ``0``, ``0,2``, ``1:3``, ``[0, 2]``, or the name of a variable with such a value.

    :raises UsageError: if ``text`` is none of these.
    """
    if text == "all":
        return "all"
    if text in namespace:
        found: Targets = namespace[text]
        return found
    if re.fullmatch(r"-?\d*:-?\d*(:-?\d*)?", text):
        return slice(*(int(part) if part else None for part in text.split(":")))
    try:
        value: Targets = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        raise UsageError(
            f"--targets cannot be {text}: give all, an id, ids such as 0,2 or 0:4, or a variable with such a value"
        ) from None
    return value


def _parse_timeout(text: str) -> float:
    try:
        timeout = float(text)
    except ValueError:
        timeout = 0.0
    if not 0 < timeout < float("inf"):
        raise UsageError(f"--timeout must be a number of seconds above 0, not {text}")
    return timeout


@magics_class
class ParallelMagics(Magics):
    """The magics of an IPython session, which use the active client."""

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._own: MultiEngineClient | None = None
        self.auto = AutoParallel(shell)

    def active(self) -> MultiEngineClient:
        """Return the active client.

        If there is none, a client of the default cluster is created and activated; it is replaced if its connection
        is lost.

        :raises ClientError: if the default cluster cannot be reached.
        """
        client: MultiEngineClient | None = active.client
        if client is None or (client is self._own and not client.connected):
            try:
                client = active.client = self._own = MultiEngineClient()
            except KernelError as problem:
                raise ClientError(
                    f"no client is active, and the default cluster cannot be used ({problem}); start one with "
                    "`ipcluster -n 4`, or create a client and call its activate()"
                ) from None
        return client

    @no_var_expand
    @line_cell_magic
    def px(self, line: str, cell: str | None = None) -> Any:
        """Run code on the engines.

        ``%px [options] code`` runs the rest of the line, ``%%px [options]`` the rest of the cell.

        ``--targets``
            The engines: all, an id, ids such as ``0,2`` or ``0:4``, or a variable with such a value; default: the
            client's targets.
        ``--noblock``
            Do not wait; return a PendingResult.
        ``--local``
            Run the code here first, and on the engines if it succeeds.
        ``--timeout SECONDS``
            The maximum time to wait; then report which engines are done, which failed, and where the others are.
        """
        options, rest = parse_options(line, self.shell.user_ns)
        if cell is not None and rest.strip():
            raise UsageError(f"only options may follow %%px on its line, not {rest.strip()!r}")
        code = rest if cell is None else cell.rstrip("\n")
        if not code.strip():
            raise UsageError("no code to run: write it after %px, or below %%px")
        client = self.active()
        print(ANNOUNCEMENT)
        if options.local:
            self._run_here(code)
        return self._execute(client, code, options)

    def _run_here(self, code: str) -> None:
        with self.auto.paused():
            cell = self.shell.transform_cell(code)
            runs_loop = self.shell.should_run_async(code, transformed_cell=cell)
            if runs_loop and front_end() is FrontEnd.NOTEBOOK:
                raise ClientError(
                    "a magic cannot run code with await in a notebook, whose event loop is already running; "
                    "omit --local, and run the code here in a separate cell"
                )
            if not self.shell.run_cell(code, store_history=False).success:
                raise ClientError("the code failed here, so it was not run on the engines")

    @line_magic
    def result(self, line: str) -> Any:
        """Show the results of the last command on each engine.

        ``%result N`` shows those of command number N; the options are those of ``%px``.
        """
        options, rest = parse_options(line, self.shell.user_ns)
        number = None
        if rest.strip():
            try:
                number = int(rest)
            except ValueError:
                raise UsageError(
                    f"%result takes the number of a command, not {rest.strip()!r}"
                ) from None
        return self.active().get_result(number, targets=options.targets, block=not options.noblock)

    @no_var_expand
    @line_cell_magic
    def autopx(self, line: str, cell: str | None = None) -> Any:
        """Run all following input on the engines, until the next ``%autopx``.

        ``%px``, ``%result`` and ``%autopx`` themselves work as usual.
        """
        if cell is not None:
            return self._execute(self.active(), cell.rstrip("\n"), PxOptions())
        if line.strip():
            raise UsageError("%autopx takes no arguments")
        if self.auto.on:
            self.auto.disable()
            print("Auto Parallel Disabled")
        else:
            self.active()
            self.auto.enable()
            print("Auto Parallel Enabled\nType %autopx to disable")
        return None

    def _execute(self, client: MultiEngineClient, code: str, options: PxOptions) -> Any:
        block = options.timeout is None and not options.noblock and client.block
        try:
            if options.timeout is None:
                return client.execute(code, targets=options.targets, block=block)
            pending = client.execute(code, targets=options.targets, block=False)
            try:
                return pending.get_result(timeout=options.timeout)
            except ResultNotCompleted:
                raise NotFinished.of(client, pending, options.timeout) from None
        except CompositeError as error:
            show_results_of(error)
            raise


def show_results_of(error: CompositeError) -> None:
    """Display the output and results of engines, including failed ones, which the error does not show."""
    shown = [each for each in results_in(error) if any(each.get(key) for key in _SHOWABLE)]
    results = ResultList(sorted(shown, key=lambda each: each["id"]))
    results.shown = error.shown
    if any(any(each.get(key) for key in _SHOWABLE) for each in results.unseen()):
        display(results)


class AutoParallel:
    """While enabled, converts cells to calls of ``%%autopx``, before IPython looks for magics in them."""

    has_side_effects = True
    """True, so that IPython does not use this transformer to check whether input is complete."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    @property
    def _transformers(self) -> list[Any]:
        found: list[Any] = self._shell.input_transformer_manager.cleanup_transforms
        return found

    @property
    def on(self) -> bool:
        """Whether it is enabled."""
        return self in self._transformers

    def enable(self) -> None:
        """Convert cells from the next one on."""
        transformers = self._transformers
        names = [getattr(each, "__name__", "") for each in transformers]
        place = names.index("cell_magic") if "cell_magic" in names else len(transformers)
        transformers.insert(place, self)

    def disable(self) -> None:
        """Stop converting cells."""
        if self.on:
            self._transformers.remove(self)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Disable the conversion in a ``with`` block."""
        was_on = self.on
        self.disable()
        try:
            yield
        finally:
            if was_on:
                self.enable()

    def __call__(self, lines: list[str]) -> list[str]:
        text = "".join(lines)
        if not text.strip() or _OWN_MAGIC.match(text) or self._is_of_front_end():
            return lines
        for index, line in enumerate(lines):
            if line.strip() == "%autopx":
                return [*self._turned("".join(lines[:index])), *lines[index:]]
        return self._turned(text)

    @staticmethod
    def _turned(text: str) -> list[str]:
        # A semicolon at the end hides the value in this session too.
        end = ";" if text.rstrip().endswith(";") else ""
        return [f"get_ipython().run_cell_magic('autopx', '', {text!r}){end}\n"]

    def _is_of_front_end(self) -> bool:
        """Return whether the input comes from the front end itself and not from the user."""
        if front_end() is not FrontEnd.NOTEBOOK:
            return False
        try:
            content = self._shell.get_parent()["content"]
        except (AttributeError, KeyError, TypeError, LookupError):
            return False
        return bool(content.get("silent")) or not content.get("store_history", True)


def _magics_of(shell: Any) -> ParallelMagics:
    """Return the session's magics, which are created at first use."""
    found = shell.magics_manager.registry.get(ParallelMagics.__name__)
    if not isinstance(found, ParallelMagics):
        found = ParallelMagics(shell)
        shell.register_magics(found)
    return found


def load_ipython_extension(shell: Any) -> None:
    """Load the magics (``%load_ext ipython1``)."""
    _magics_of(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Stop ``%autopx`` and remove the magics (``%unload_ext ipython1``)."""
    magics = _magics_of(shell)
    magics.auto.disable()
    active.client = None
    table: dict[str, dict[str, Callable[..., Any]]] = shell.magics_manager.magics
    for kind in table:
        for name in ("px", "autopx", "result"):
            table[kind].pop(name, None)
    shell.magics_manager.registry.pop(ParallelMagics.__name__, None)
