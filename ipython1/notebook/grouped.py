"""The output of several engines for a notebook: a heading for each engine, and what it wrote and displayed below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ipython1.core.texts import compress_ids
from ipython1.notebook.html import BLOCK, bundle_html, label_html, labelled_text

_IN_HTML: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What is as good inside of other HTML as by itself."""

_TEXTS: Final = frozenset(("text/plain", *_IN_HTML))


@dataclass(frozen=True, slots=True)
class Native:
    """An object that the front end displays by itself.

    :ivar data, metadata: its representations and their metadata, by MIME type.
    """

    data: dict[str, Any]
    metadata: dict[str, Any]

    def __str__(self) -> str:
        return bundle_html(self.data, self.metadata)


@dataclass(frozen=True, slots=True)
class Grouped:
    """What is displayed under one heading.

    :ivar ids: the engines.
    :ivar number: the number of the command; None if it differs between the engines.
    :ivar parts: pairs of ``Out`` or ``Err`` and a text or a displayed object, which is a pair of its representations
        and their metadata.
    """

    ids: tuple[int, ...]
    number: int | None
    parts: Sequence[tuple[str, Any]]

    def label(self, kind: str) -> str:
        """Return the heading."""
        number = "" if self.number is None else f"[{self.number}]"
        return f"[{compress_ids(self.ids)}] {kind}{number}:"

    def html_parts(self, native: bool) -> Iterator[str | Native]:
        """Yield HTML, and the objects that the front end is to display by itself."""
        label = ""
        for kind, content in self.parts:
            head = self.label(kind) if kind != label else ""
            label = kind
            plain = _plain_text(content)
            if plain is not None:
                yield labelled_text(head, plain, kind == "Err")
                continue
            if head:
                yield label_html(head)
            data, metadata = content
            shown = Native(dict(data), dict(metadata or {}))
            yield shown if native and not _TEXTS.issuperset(data) else str(shown)


def _plain_text(content: Any) -> str | None:
    """Return the text of what has no other form."""
    if isinstance(content, str):
        return content
    return str(content[0]["text/plain"]) if set(content[0]) == {"text/plain"} else None


def grouped_html(
    groups: Iterable[Grouped], done: Sequence[int], native: bool
) -> Iterator[str | Native]:
    """Yield the HTML of groups, and the objects that the front end is to display by itself.

    :param done: the ids of engines of which nothing is displayed.
    :param native: whether there are such objects; else everything is HTML.
    """
    for group in groups:
        inside = list(group.html_parts(native))
        if any(isinstance(each, Native) for each in inside):
            yield from inside
        else:
            yield f'<div style="{BLOCK}">{"".join(map(str, inside))}</div>'
    if done:
        yield label_html(f"[{compress_ids(done)}]", "done")


def native_bundles(
    parts: Iterable[str | Native], text: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield what to display, one thing after the other; HTML that is not interrupted is one thing.

    :param text: what all of it is as text, which belongs to the first.
    """
    html: list[str] = []
    texts = iter([text])
    for part in parts:
        if isinstance(part, Native):
            if html:
                yield _html_bundle(html, next(texts, ""))
                html = []
            next(texts, "")
            yield part.data, part.metadata
        else:
            html.append(part)
    if html:
        yield _html_bundle(html, next(texts, ""))


def _html_bundle(parts: list[str], text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    html = f'<div class="ipython1-results">{"".join(parts)}</div>'
    return {"text/plain": text, "text/html": html}, {}
