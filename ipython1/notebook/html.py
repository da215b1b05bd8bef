"""HTML representations of what clients return, for notebooks.

Plain functions of plain data: text is escaped; HTML, SVG and images displayed by code on the engines are shown
unchanged.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Protocol

from ipython1.core.texts import clip, compress_ids
from ipython1.notebook.ansihtml import text_html
from ipython1.notebook.bounds import MAX_ROWS, bounded, share_of

_IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
LABEL_COLOR: Final = "var(--jp-mirror-editor-keyword-color, #0a6)"
ERROR_COLOR: Final = "var(--jp-error-color1, #d33)"
_SHORT: Final = 100
"""Characters of a line that stands next to its heading."""

_LABEL: Final = (
    f"color: {LABEL_COLOR}; white-space: pre-wrap; "
    "font-family: var(--jp-code-font-family, monospace); font-size: var(--jp-code-font-size, inherit)"
)
_PRE: Final = (
    "margin: 0 0 0.4em 0; padding: 0; white-space: pre-wrap; overflow-wrap: anywhere; text-align: left; "
    "background: none; border: none; color: inherit; font-family: var(--jp-code-font-family, monospace); "
    "font-size: var(--jp-code-font-size, inherit); line-height: var(--jp-code-line-height, 1.3)"
)
ERR: Final = _PRE.replace("color: inherit", f"color: {ERROR_COLOR}")
BLOCK: Final = "margin: 0 0 0.6em 0"
MUTED: Final = "opacity: 0.7"

MOST_TRACEBACKS: Final = 50
"""Tracebacks that an error shows; it holds all."""


class _Failure(Protocol):
    """A ``CompositeError``."""

    message: str

    def summary_lines(self) -> list[str]: ...

    def tracebacks(self) -> list[tuple[str, str]]: ...


def escape(text: object) -> str:
    """Escape text for HTML."""
    return html.escape(str(text), quote=True)


def pre(text: str, style: str = _PRE) -> str:
    """Return preformatted text, with the colours that it has for terminals."""
    return f'<pre style="{style}">{text_html(text)}</pre>'


def details(summary: str, inside: str, opened: bool = False) -> str:
    """Return what can be expanded; both are HTML."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{inside}</details>"


def label_html(label: str, more: str = "") -> str:
    """Return a heading such as ``[0] Out[5]:``."""
    rest = f' <span style="opacity: 0.75">{escape(more)}</span>' if more else ""
    return f'<div style="{_LABEL}"><b>{escape(label)}</b>{rest}</div>'


def labelled_text(label: str, text: str, is_error: bool = False) -> str:
    """Return text after its heading: on the same line if it is short, as in a terminal."""
    head = ""
    if label:
        color = ERROR_COLOR if is_error else LABEL_COLOR
        gap = "\n" if "\n" in text or len(text) > _SHORT else " "
        head = f'<b style="color: {color}">{escape(label)}</b>{gap}'
    return f'<pre style="{ERR if is_error else _PRE}">{head}{text_html(text)}</pre>'


def _label(ids: Sequence[int], what: str, number: object, source: str = "") -> str:
    return label_html(f"[{compress_ids(ids)}] {what}[{number}]:", source)


def bundle_html(data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> str:
    """Return the best representation of a displayed object that HTML can contain."""
    if data.get("text/html"):
        return f"<div>{data['text/html']}</div>"
    if data.get("image/svg+xml"):
        return f"<div>{data['image/svg+xml']}</div>"
    for kind in _IMAGES:
        if data.get(kind):
            return _image(kind, data[kind], (metadata or {}).get(kind, {}))
    if data.get("text/latex"):
        return f"<div>{escape(data['text/latex'])}</div>"
    for kind in ("text/markdown", "text/plain"):
        if data.get(kind):
            return pre(str(data[kind]))
    if "application/json" in data:
        return pre(json.dumps(data["application/json"], indent=2, default=str))
    return pre(f"<object of type {', '.join(data)}>") if data else ""


def _image(kind: str, content: Any, metadata: Any) -> str:
    if isinstance(content, (bytes, bytearray, memoryview)):
        content = base64.b64encode(bytes(content)).decode()
    size = "".join(
        f' {name}="{escape(metadata[name])}"'
        for name in ("width", "height")
        if isinstance(metadata, Mapping) and metadata.get(name)
    )
    return (
        f'<div><img src="data:{kind};base64,{escape("".join(str(content).split()))}"{size}></div>'
    )


def _outputs(result: Mapping[str, Any], most: int) -> str:
    """Return all output of one command."""
    parts: list[str] = []
    number, ids = result["number"], [result["id"]]
    value = result.get("result")
    if result.get("stdout") or value:
        parts.append(_label(ids, "Out", number))
    if result.get("stdout"):
        parts.append(pre(_bounded(result, "stdout", most)))
    for shown in result.get("display", ()):
        data, metadata = shown if isinstance(shown, (tuple, list)) else (shown, {})
        parts.append(bundle_html(data, metadata))
    if value:
        parts.append(bundle_html(value) if isinstance(value, Mapping) else pre(str(value)))
    if result.get("stderr"):
        parts += [_label(ids, "Err", number), pre(_bounded(result, "stderr", most), ERR)]
    return "".join(parts)


def _bounded(result: Mapping[str, Any], stream: str, most: int) -> str:
    return bounded(str(result[stream]).rstrip("\n"), f"the result's [{stream!r}]", most)


def results_html(results: Iterable[Mapping[str, Any]]) -> str:
    """Return the results of a command by engine; adjacent engines without output share a line."""
    chosen = list(results)
    most = share_of(len(chosen))
    described = [
        (
            result["id"],
            result["number"],
            bounded(str(result["input"]["raw"]).strip("\n"), "the result's ['input']", most),
            _outputs(result, most),
        )
        for result in chosen
    ]
    blocks: list[str] = []
    for (number, source, outputs), group in groupby(described, key=lambda each: each[1:]):
        ids = [engine_id for engine_id, *_ in group]
        if not outputs:
            blocks.append(f'<div style="{BLOCK}">{_label(ids, "In ", number, source)}</div>')
            continue
        for engine_id in ids:
            head = _label([engine_id], "In ", number, source)
            blocks.append(f'<div style="{BLOCK}">{head}{outputs}</div>')
    return f'<div class="ipython1-results">{"".join(blocks)}</div>'


def tracebacks_html(error: _Failure) -> str:
    """Return each engine's traceback, to expand."""
    found = error.tracebacks()
    most = share_of(min(len(found), MOST_TRACEBACKS))
    folded = "".join(
        details(f"<code>{escape(label)}</code>", pre(bounded(text, "the error's elist", most)))
        for label, text in found[:MOST_TRACEBACKS]
    )
    left = len(found) - MOST_TRACEBACKS
    return folded + (f"<div>... and {left} more; elist holds all</div>" if left > 0 else "")


def error_html(error: _Failure) -> str:
    """Return an error of several engines: its message, and each engine's traceback to expand."""
    lines = bounded("\n".join(error.summary_lines()), "the error's elist")
    return (
        f'<div class="ipython1-error"><b>{escape(type(error).__name__)}</b>: {escape(error.message)}'
        f"{pre(lines, ERR)}{tracebacks_html(error)}</div>"
    )


def table_html(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are already HTML."""
    left = "text-align: left; padding: 0.2em 1em 0.2em 0.3em; line-height: 1.4"
    top = f"{left}; vertical-align: top"
    head = "".join(f'<th style="{left}">{escape(each)}</th>' for each in heads)
    shown = list(rows)
    body = "".join(
        "<tr>" + "".join(f'<td style="{top}">{cell}</td>' for cell in row) + "</tr>"
        for row in shown[:MAX_ROWS]
    )
    more = len(shown) - MAX_ROWS
    if more > 0:
        body += f'<tr><td style="{left}" colspan="{len(heads)}">... and {more} more</td></tr>'
    header = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    return f'<table style="margin: 0.3em 0">{header}<tbody>{body}</tbody></table>'


_QUEUE_SHOWN: Final = 5
"""Queued commands of an engine that are shown without expanding them."""

_QUEUE_MOST: Final = 100

_COMMAND: Final = 1000
"""Characters of a command that are shown of it."""


def _code(text: object) -> str:
    return f"<code>{escape(clip(str(text), _COMMAND))}</code>"


def _queue(queue: Sequence[object]) -> str:
    lines = "<br>".join(map(_code, queue[:_QUEUE_MOST]))
    if len(queue) <= _QUEUE_SHOWN:
        return lines
    more = f"<br>... and {len(queue) - _QUEUE_MOST} more" if queue[_QUEUE_MOST:] else ""
    return details(f"{len(queue)} commands", lines + more)


def queue_status_html(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
    """Return a table of the running and queued commands of each engine."""
    return table_html(
        ["engine", "pending", "queue"],
        (
            (
                escape(engine_id)
                + (f" (away for {status['away']:.1f} s)" if "away" in status else ""),
                _code(status["pending"]) if status["pending"] else "",
                _queue(status["queue"]),
            )
            for engine_id, status in rows
        ),
    )


def lines_html(rows: Iterable[tuple[int, Sequence[str]]]) -> str:
    """Return a table of text lines by engine: the first line of each next to its id, the others to expand."""
    chosen = list(rows)
    most = share_of(len(chosen))

    def cell(lines: Sequence[str]) -> str:
        first = escape(clip(lines[0], _COMMAND))
        rest = bounded("\n".join(lines[1:]), "the list", most)
        return details(first, pre(rest)) if rest else first

    return table_html(
        ["engine", ""], ((escape(engine_id), cell(lines)) for engine_id, lines in chosen)
    )


def lines_block_html(text: str) -> str:
    """Return lines that change, such as progress bars, in characters of the same width."""
    return f'<div class="ipython1-live">{pre(text, _PRE + "; line-height: 1.2; overflow-x: auto")}</div>'


def engine_label_html(engine_id: int) -> str:
    """Return the label of what an engine displays."""
    return f'<div style="{_LABEL}"><b>[{escape(engine_id)}]</b></div>'
