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

from ipython1.core.terminaltext import without_styles
from ipython1.core.texts import compress_ids
from ipython1.notebook.bounds import bounded

_IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
_LABEL: Final = "color: var(--jp-mirror-editor-keyword-color, #0a6); font-family: monospace; white-space: pre-wrap"
_PRE: Final = (
    "margin: 0 0 0.4em 0; white-space: pre-wrap; text-align: left; background: none; border: none"
)
_ERR: Final = _PRE + "; color: var(--jp-error-color1, #b22)"
_BLOCK: Final = "margin: 0 0 0.6em 0"


class _Failure(Protocol):
    """A ``CompositeError``."""

    message: str

    def summary_lines(self) -> list[str]: ...

    def tracebacks(self) -> list[tuple[str, str]]: ...


def escape(text: object) -> str:
    """Escape text for HTML."""
    return html.escape(str(text), quote=True)


def _pre(text: str, style: str = _PRE) -> str:
    return f'<pre style="{style}">{escape(without_styles(text))}</pre>'


def _label(ids: Sequence[int], what: str, number: object, source: str = "") -> str:
    shown = f"[{compress_ids(ids)}] {what}[{number}]:"
    code = f' <span style="opacity: 0.75">{escape(source)}</span>' if source else ""
    return f'<div style="{_LABEL}"><b>{escape(shown)}</b>{code}</div>'


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
            return _pre(str(data[kind]))
    if "application/json" in data:
        return _pre(json.dumps(data["application/json"], indent=2, default=str))
    return _pre(f"<object of type {', '.join(data)}>") if data else ""


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


def _outputs(result: Mapping[str, Any]) -> str:
    """Return all output of one command."""
    parts: list[str] = []
    number, ids = result["number"], [result["id"]]
    value = result.get("result")
    if result.get("stdout") or value:
        parts.append(_label(ids, "Out", number))
    if result.get("stdout"):
        parts.append(_pre(_bounded(result, "stdout")))
    for shown in result.get("display", ()):
        data, metadata = shown if isinstance(shown, (tuple, list)) else (shown, {})
        parts.append(bundle_html(data, metadata))
    if value:
        parts.append(bundle_html(value) if isinstance(value, Mapping) else _pre(str(value)))
    if result.get("stderr"):
        parts += [_label(ids, "Err", number), _pre(_bounded(result, "stderr"), _ERR)]
    return "".join(parts)


def _bounded(result: Mapping[str, Any], stream: str) -> str:
    return bounded(str(result[stream]).rstrip("\n"), f"the result's [{stream!r}]")


def results_html(results: Iterable[Mapping[str, Any]]) -> str:
    """Return the results of a command by engine; adjacent engines without output share a line."""
    described = [
        (result["id"], result["number"], str(result["input"]["raw"]).strip("\n"), _outputs(result))
        for result in results
    ]
    blocks: list[str] = []
    for (number, source, outputs), group in groupby(described, key=lambda each: each[1:]):
        ids = [engine_id for engine_id, *_ in group]
        if not outputs:
            blocks.append(f'<div style="{_BLOCK}">{_label(ids, "In ", number, source)}</div>')
            continue
        for engine_id in ids:
            head = _label([engine_id], "In ", number, source)
            blocks.append(f'<div style="{_BLOCK}">{head}{outputs}</div>')
    return f'<div class="ipython1-results">{"".join(blocks)}</div>'


def error_html(error: _Failure) -> str:
    """Return an error of several engines: its message, and each engine's traceback to expand."""
    folded = "".join(
        f"<details><summary><code>{escape(label)}</code></summary>{_pre(text)}</details>"
        for label, text in error.tracebacks()
    )
    lines = "\n".join(error.summary_lines())
    return (
        f'<div class="ipython1-error"><b>{escape(type(error).__name__)}</b>: {escape(error.message)}'
        f"{_pre(lines, _ERR)}{folded}</div>"
    )


def table_html(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are already HTML."""
    head = "".join(f'<th style="text-align: left">{escape(each)}</th>' for each in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align: left; vertical-align: top">{cell}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def queue_status_html(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
    """Return a table of the running and queued commands of each engine."""
    return table_html(
        ["engine", "pending", "queue"],
        (
            (
                escape(engine_id)
                + (f" (away for {status['away']:.1f} s)" if "away" in status else ""),
                f"<code>{escape(status['pending'])}</code>" if status["pending"] else "",
                "<br>".join(f"<code>{escape(each)}</code>" for each in status["queue"]),
            )
            for engine_id, status in rows
        ),
    )


def lines_html(rows: Iterable[tuple[int, Sequence[str]]]) -> str:
    """Return a table of text lines by engine, the first line of each next to its id."""
    return table_html(
        ["engine", ""],
        (
            (
                escape(engine_id),
                f"{escape(lines[0])}{_pre(chr(10).join(lines[1:])) if lines[1:] else ''}",
            )
            for engine_id, lines in rows
        ),
    )


def lines_block_html(text: str) -> str:
    """Return lines that change, such as progress bars, in characters of the same width."""
    return f'<div class="ipython1-live">{_pre(text, _PRE + "; line-height: 1.2; overflow-x: auto")}</div>'


def engine_label_html(engine_id: int) -> str:
    """Return the label of what an engine displays."""
    return f'<div style="{_LABEL}"><b>[{escape(engine_id)}]</b></div>'
