"""The magics that run code on the engines: ``%px``, ``%%px``, ``%autopx``, ``%result``, ``%pxresult``, ``%pxconfig``.

``%load_ext ipython1`` or :meth:`MultiEngineClient.activate` loads them; they use the client that was activated last.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.display import HTML, display

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    KernelError,
    ResultNotCompleted,
)
from ipython1.kernel.calls.liveview import results_in
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.resultlist import ResultList
from ipython1.kernel.calls.stacklist import NotFinished
from ipython1.kernel.clients.active import active
from ipython1.kernel.clients.autoparallel import (
    AutoParallel,
    add_transformer,
    help_of_cell_magic,
    remove_transformer,
)
from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.kernel.clients.pxcompletion import install_completer, remove_completer
from ipython1.kernel.clients.pxoptions import ALLOWED, PxOptions, parse_options, with_options
from ipython1.kernel.clients.pxresults import SHOWABLE, PxResults
from ipython1.notebook.frontend import FrontEnd, front_end
from ipython1.notebook.html import tracebacks_html

ANNOUNCEMENT: Final = "Executing command on Controller"

MAGICS: Final = ("px", "autopx", "result", "pxconfig", "pxresult")


@magics_class
class ParallelMagics(Magics):
    """The magics of an IPython session, which use the active client.

    :ivar defaults: what ``%pxconfig`` set.
    :ivar last: the last call of ``%px`` or ``%%px``; None if there was none.
    """

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._own: MultiEngineClient | None = None
        self.auto: AutoParallel = AutoParallel(shell)
        self.defaults: PxOptions = PxOptions()
        self.last: PendingResult | _Finished | None = None
        self._last_group = ""

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

    def _options(
        self, magic: str, line: str, before_code: bool = False
    ) -> tuple[PxOptions | None, str]:
        """Parse a magic's line; with ``--help``, show its help, and return None for the options."""
        options, rest = parse_options(
            line, self.shell.user_ns, ALLOWED[magic], self.defaults, before_code
        )
        if options.help:
            print(getattr(self, magic).__doc__)
            return None, ""
        return options, rest

    @no_var_expand
    @line_cell_magic
    @with_options("px")
    def px(self, line: str, cell: str | None = None) -> Any:
        """Run code on the engines.

        ``%px [options] code`` runs the rest of the line and shows each engine's command with its output; ``%%px
        [options]`` runs the rest of the cell and shows the output alone.  Before code on the same line, ``-t`` and the
        other short options are taken for code if the whole line is valid Python.
        """
        options, rest = self._options("px", line, cell is None)
        if options is None:
            return None
        if cell is not None and rest.strip():
            raise UsageError(f"only options may follow %%px on its line, not {rest.strip()!r}")
        code = rest if cell is None else cell.rstrip("\n")
        if not code.strip():
            raise UsageError("no code to run: write it after %px, or below %%px")
        client = self.active()
        grouped = cell is not None or options.group != self.defaults.group
        if not grouped:
            print(ANNOUNCEMENT)
        if options.local:
            self._run_here(code)
        return self._execute(client, code, options, grouped)

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
    @with_options("result")
    def result(self, line: str) -> Any:
        """Show the results of the last command on each engine.

        ``%result N`` shows those of command number N.
        """
        options, rest = self._options("result", line)
        if options is None:
            return None
        number = None
        if rest.strip():
            try:
                number = int(rest)
            except ValueError:
                raise UsageError(
                    f"%result takes the number of a command, not {rest.strip()!r}"
                ) from None
        client = self.active()
        targets = targets_for(client, options.targets)
        return client.get_result(number, targets=targets, block=options.block is not False)

    @line_magic
    @with_options("pxresult")
    def pxresult(self, line: str) -> Any:
        """Show the output of the last ``%px`` or ``%%px`` again, in the form of ``%%px``.

        It waits for one that was started with ``--noblock``.
        """
        options, rest = self._options("pxresult", line)
        if options is None:
            return None
        if rest.strip():
            raise UsageError(f"%pxresult takes only options, not {rest.strip()!r}")
        if self.last is None:
            raise UsageError("there is no result yet: run something with %px or %%px first")
        return self._result_of(self.last, options, options.group or self._last_group)

    @line_magic
    @with_options("pxconfig")
    def pxconfig(self, line: str) -> None:
        """Set defaults for the options of ``%px``, ``%%px``, ``%pxresult``, ``%result`` and ``%autopx``.

        ``%pxconfig`` alone shows them.  They hold in this session until they are set anew; the client's own ``targets``
        and ``block`` do not change.
        """
        if re.search(r"(^|\s)--reset(\s|$)", line):
            self.defaults = PxOptions()
        options, rest = self._options("pxconfig", line)
        if options is None:
            return
        if rest.strip():
            raise UsageError(f"%pxconfig takes only options, not {rest.strip()!r}")
        if options.targets is not None and active.client is not None:
            targets_for(active.client, options.targets)
        self.defaults = replace(options, reset=False)
        if not line.strip():
            described = " ".join(options.described())
            print(f"%pxconfig {described}" if described else "%pxconfig: no defaults are set")

    @no_var_expand
    @line_cell_magic
    def autopx(self, line: str, cell: str | None = None) -> Any:
        """Run all following input on the engines, until the next ``%autopx``.

        ``%px``, ``%pxresult``, ``%pxconfig``, ``%result`` and ``%autopx`` themselves work as usual.
        """
        if cell is not None:
            return self._execute(self.active(), cell.rstrip("\n"), self.defaults, False)
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

    def _execute(
        self, client: MultiEngineClient, code: str, options: PxOptions, grouped: bool
    ) -> Any:
        targets = targets_for(client, options.targets)
        blocks = client.block if options.block is None else options.block
        self._last_group = options.group
        shown_as = options.group if grouped else None
        if blocks and not options.needs_call:
            try:
                finished = self.last = _Finished.of(client, code, targets)
            except KeyboardInterrupt:
                # It goes on, and %pxresult must not show an earlier one.
                self.last = client.pending[-1] if client.pending else None
                raise
            return self._result_of(finished, options, shown_as)
        pending = self.last = client.execute(code, targets=targets, block=False)
        if options.out:
            self.shell.user_ns[options.out] = pending
        if options.verbose:
            print(f"Running on engine{_named(pending.engine_ids)}")
        return self._result_of(pending, options, shown_as) if blocks else pending

    def _debug(self, error: CompositeError) -> None:
        """Open the debugger at the exception of the first engine that failed."""
        failed = next((each for each in error.engine_ids if each is not None), None)
        if failed is None:
            return
        print(error)
        try:
            self.active().debug(targets=failed)
        except KernelError as problem:  # the engine is gone, for example
            print(f"The debugger cannot be opened: {problem}")

    def _result_of(
        self, call: PendingResult | _Finished, options: PxOptions, group: str | None
    ) -> Any:
        """Wait for a call, and return its result.

        :param group: how the output of engines is arranged; None for the result as it is.
        """
        try:
            result = call.result() if isinstance(call, _Finished) else _wait(call, options)
        except CompositeError as error:
            show_results_of(error, group)
            if options.pdb:
                self._debug(error)
            raise
        return result if group is None else PxResults.of(result, group)


class _Finished:
    """The result or the error of a call that blocked, which the controller does not record as it does others."""

    def __init__(self, value: Any, error: CompositeError | None = None) -> None:
        self._value = value
        self._error = error

    @classmethod
    def of(cls, client: MultiEngineClient, code: str, targets: Any) -> _Finished:
        """Run code, and wait."""
        try:
            return cls(client.execute(code, targets=targets, block=True))
        except CompositeError as error:
            return cls(None, error)

    def result(self) -> Any:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._value


def _named(ids: list[int]) -> str:
    return f"{' ' if len(ids) == 1 else 's '}{compress_ids(ids)}"


def _wait(pending: PendingResult, options: PxOptions) -> Any:
    """Wait within the limits of the options, and return the result.

    :raises NotFinished: if the call is not done in time.
    """
    begun = time.monotonic()

    def left() -> float | None:
        spent = time.monotonic() - begun
        return None if options.timeout is None else max(options.timeout - spent, 0.0)

    after, limit = options.progress_after, options.timeout
    try:
        if after is not None and (limit is None or after < limit):
            try:
                return pending.get_result(timeout=after)
            except ResultNotCompleted:
                if pending.done():
                    raise
            pending.wait_interactive(left())
        return pending.get_result(timeout=left())
    except ResultNotCompleted:
        if pending.done() or limit is None:
            raise
        raise NotFinished.of(pending.client, pending, limit) from None


def targets_for(client: MultiEngineClient, wanted: Any) -> Any:
    """Return the targets for a call of ``client``.

    :param wanted: targets, or a view or client that has them.
    :raises UsageError: if that is one of another cluster.
    """
    if not (hasattr(wanted, "targets") and hasattr(wanted, "execute")):
        return wanted
    if _connection_of(wanted) is not _connection_of(client):
        raise UsageError(
            "--targets names a view or client that is not of the active client; call its activate(), or give ids"
        )
    return wanted.targets


def _connection_of(client: Any) -> object:
    return getattr(client, "_connection", client)


def show_results_of(error: CompositeError, group: str | None = None) -> None:
    """Display the output and results of engines, including failed ones, which the error does not show.

    :param group: how they are arranged; None for the form of ``%px``.
    """
    shown = [each for each in results_in(error) if any(each.get(key) for key in SHOWABLE)]
    results = ResultList(sorted(shown, key=lambda each: each["id"]))
    results.shown = error.shown
    if any(any(each.get(key) for key in SHOWABLE) for each in results.unseen()):
        display(results if group is None else PxResults.of(results, group))
    if group is not None and front_end() is FrontEnd.NOTEBOOK:
        display(HTML(tracebacks_html(error)))


def _magics_of(shell: Any) -> ParallelMagics:
    """Return the session's magics, which are created at first use."""
    found = shell.magics_manager.registry.get(ParallelMagics.__name__)
    if not isinstance(found, ParallelMagics):
        found = ParallelMagics(shell)
        shell.register_magics(found)
        install_completer(shell)
        add_transformer(shell, help_of_cell_magic)
    return found


def load_ipython_extension(shell: Any) -> None:
    """Load the magics (``%load_ext ipython1``)."""
    _magics_of(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Stop ``%autopx`` and remove the magics (``%unload_ext ipython1``)."""
    magics = _magics_of(shell)
    magics.auto.disable()
    active.client = None
    remove_completer(shell)
    remove_transformer(shell, help_of_cell_magic)
    table: dict[str, dict[str, Callable[..., Any]]] = shell.magics_manager.magics
    for kind in table:
        for name in MAGICS:
            table[kind].pop(name, None)
    shell.magics_manager.registry.pop(ParallelMagics.__name__, None)
