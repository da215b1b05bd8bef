"""Lists of results that display well at a prompt and in notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipython1.kernel.basics.naming import publish
from ipython1.kernel.calls.liveoutput import STREAMS, Shown
from ipython1.notebook.bounds import bounded
from ipython1.notebook.frontend import present_moment, session_shell


class ResultList(list[Any]):
    """The results of a command: a list with a dict for each engine, in the order of the targets, for display.

    :ivar shown: the output that was shown while the command ran, which is not repeated directly afterwards.
    """

    shown: Shown | None = None

    def _are_results(self) -> bool:
        return bool(self) and all(isinstance(item, dict) and "input" in item for item in self)

    def unseen(self) -> list[dict[str, Any]]:
        """Return the results without the output that was already shown."""
        shown = self.shown
        if shown is None or shown.moment != present_moment():
            return self
        if shown.moment is None:
            self.shown = None  # without IPython, moments cannot be told apart: do this only once
        streams: list[dict[str, Any]] = [
            {name: shown.rest(item["id"], name, item[name]) for name in STREAMS if name in item}
            for item in self
        ]
        for item, rest in zip(self, streams, strict=True):
            if item.get("display"):
                rest["display"] = shown.undisplayed(item["id"], item["display"])
        return [{**item, **rest} for item, rest in zip(self, streams, strict=True)]

    def __repr__(self) -> str:
        if not self._are_results():
            return super().__repr__()
        return render(self.unseen(), plain_styles())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        if self._are_results():
            printer.text(render(self.unseen(), session_styles()))
        else:
            printer.text(super().__repr__())

    def _repr_html_(self) -> str | None:
        from ipython1.notebook.html import results_html

        return results_html(self.unseen()) if self._are_results() else None


class EngineResult(dict[str, Any]):
    """The result of a command on one engine, as the view of an engine returns it: a dict, for display.

    It has the keys of the dicts in a :class:`ResultList`.
    """

    shown: Shown | None = None

    def _unseen(self) -> list[dict[str, Any]]:
        listed = ResultList([self])
        listed.shown = self.shown
        unseen = listed.unseen()
        self.shown = listed.shown
        return unseen

    def __repr__(self) -> str:
        return _render_blocks(self._unseen(), plain_styles())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(_render_blocks(self._unseen(), session_styles()))

    def _repr_html_(self) -> str | None:
        from ipython1.notebook.html import results_html

        return results_html(self._unseen())


class Styles:
    """Terminal escape sequences for the three kinds of labels; empty for displays without colours."""

    def __init__(
        self, before_in: str = "", before_out: str = "", before_err: str = "", after: str = ""
    ) -> None:
        self.before_in = before_in
        self.before_out = before_out
        self.before_err = before_err
        self.after = after


def plain_styles() -> Styles:
    """Return styles without colours."""
    return Styles()


def session_styles() -> Styles:
    """Return coloured styles if this IPython session uses colours, else plain ones."""
    import sys

    shell = session_shell()
    colors = str(getattr(shell, "colors", "nocolor")).lower()
    if shell is None or colors in ("nocolor", "no_color", "bw"):
        return Styles()
    if not hasattr(shell, "kernel") and not sys.stdout.isatty():
        return Styles()
    return Styles("\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m")


def render(results: Iterable[dict[str, Any]], styles: Styles) -> str:
    """Format results as text: a title, and :func:`_render_blocks`."""
    return "<Results List>\n" + _render_blocks(results, styles)


def _render_blocks(results: Iterable[dict[str, Any]], styles: Styles) -> str:
    """Format results as text: ``[id] In [number]: source``, followed by output and value."""
    blocks: list[str] = []
    for position, result in enumerate(results):
        lines = [
            _labelled(
                styles.before_in, styles, result, "In ", str(result["input"]["raw"]).rstrip("\n")
            )
        ]
        out = bounded(str(result.get("stdout", "")).rstrip("\n"), f"result[{position}]['stdout']")
        value = _as_text(result.get("result"))
        shown = "\n".join(part for part in (out, value) if part)
        if shown:
            lines.append(_labelled(styles.before_out, styles, result, "Out", shown))
        for data in result.get("display", ()):
            text = _as_text(data[0] if isinstance(data, tuple) else data)
            if text:
                lines.append(text)
        err = bounded(str(result.get("stderr", "")).rstrip("\n"), f"result[{position}]['stderr']")
        if err:
            lines.append(_labelled(styles.before_err, styles, result, "Err", err))
        blocks.append("\n".join(lines))
    # Blocks of one line are set close together; longer ones are separated by blank lines.
    gap = "\n\n" if any("\n" in block for block in blocks) else "\n"
    return gap.join(blocks)


def _labelled(before: str, styles: Styles, result: dict[str, Any], label: str, text: str) -> str:
    return f"{before}[{result['id']}] {label}[{result['number']}]:{styles.after} {text}"


def _as_text(bundle: Any) -> str:
    if not bundle:
        return ""
    return str(bundle.get("text/plain", "")) if isinstance(bundle, dict) else str(bundle)


class QueueStatusList(list[Any]):
    """The queues of engines: a list of ``(id, {'pending': ..., 'queue': [...]})``, one line per command.

    The dict of an engine that is away also has ``away``: for how many seconds it has been out of reach.
    """

    def __repr__(self) -> str:
        lines = ["<Queue Status>"]
        for engine_id, status in self:
            if "away" in status:
                lines.append(f"[{engine_id}] away:    out of reach for {status['away']:.1f} s")
            lines.append(f"[{engine_id}] pending: {status['pending']}")
            lines += [f"[{engine_id}] queued:  {command}" for command in status["queue"]]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from ipython1.notebook.html import queue_status_html

        return queue_status_html(self)


publish("ipython1.kernel.resultlist", ResultList, EngineResult, QueueStatusList)
