"""The results of ``%%px``: what the engines wrote and displayed, without the code, which stands in the cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import MERGE_DISPLAY_ABOVE
from ipython1.kernel.calls.resultlist import ResultList, Styles, plain_styles, session_styles
from ipython1.notebook.bounds import MAX_ROWS, bounded, share_of
from ipython1.notebook.frontend import FrontEnd, front_end
from ipython1.notebook.grouped import Grouped, grouped_html, native_bundles

SHOWABLE: Final = ("stdout", "stderr", "result", "display")
"""What of an engine's result is displayed."""

_OUT: Final = "Out"
_ERR: Final = "Err"

Part = tuple[str, Any]
"""A label, and a text or a displayed object (a pair of its representations and their metadata)."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What one engine wrote and displayed, by kind."""

    engine_id: int
    number: int
    stdout: tuple[Part, ...]
    stderr: tuple[Part, ...]
    displayed: tuple[Part, ...]
    value: tuple[Part, ...]

    @classmethod
    def of(cls, position: int, result: dict[str, Any], most: int) -> _Parts:
        texts = {
            stream: ((label, bounded(text, f"result[{position}][{stream!r}]", most)),)
            for stream, label in (("stdout", _OUT), ("stderr", _ERR))
            if (text := str(result.get(stream, "")).rstrip("\n"))
        }
        value = result.get("result")
        return cls(
            result["id"],
            result["number"],
            texts.get("stdout", ()),
            texts.get("stderr", ()),
            tuple((_OUT, _displayed(each)) for each in result.get("display", ())),
            ((_OUT, _displayed(value)),) if value else (),
        )

    def columns(self, group: str, displayed: int) -> Iterator[tuple[Part, ...]]:
        """Yield what stands together of this engine, in the order in which engines take turns.

        :param displayed: how many objects any engine displayed.
        """
        if group == "type":
            yield from (self.stdout, self.stderr, self.displayed, self.value)
        elif group == "order":
            yield from (self.stdout, self.stderr)
            yield from (self.displayed[index : index + 1] for index in range(displayed))
            yield self.value
        else:
            yield (*self.stdout, *self.displayed, *self.value, *self.stderr)


def _displayed(shown: Any) -> Any:
    if isinstance(shown, (tuple, list)):
        return (shown[0], shown[1])
    return (shown, {}) if isinstance(shown, dict) else str(shown)


class PxResults(ResultList):
    """The results of ``%%px``: as :class:`ResultList`, but displayed without the code, and arranged by ``group``.

    :ivar group: ``'engine'``, ``'type'`` or ``'order'``.
    """

    group = "engine"

    @classmethod
    def of(cls, results: Any, group: str) -> Self:
        """Create the list from what ``execute`` returned.

        :param group: how it is arranged; empty for the default.
        """
        found = cls([results] if isinstance(results, dict) else results)
        found.group = group or cls.group
        found.shown = getattr(results, "shown", None)
        return found

    def _arranged(self) -> tuple[list[Grouped], list[int]]:
        """Return what is displayed, and the ids of the engines of which nothing is displayed (any more)."""
        results = self.unseen()
        return list(self._groups(results)), [
            each["id"] for each in results if not any(each.get(key) for key in SHOWABLE)
        ]

    def _groups(self, results: list[dict[str, Any]]) -> Iterator[Grouped]:
        most = share_of(len(results))
        parts = [_Parts.of(index, each, most) for index, each in enumerate(results)]
        displayed = max((len(each.displayed) for each in parts), default=0)
        rows = [each.columns(self.group, displayed) for each in parts]
        for column in zip(*rows, strict=True):
            yield from _merged(zip(parts, column, strict=True))

    def _lines(self, styles: Styles) -> str:
        blocks: list[str] = []
        groups, done = self._arranged()
        for group in groups[:MAX_ROWS]:
            lines: list[str] = []
            label = ""
            for kind, content in group.parts:
                text = content if isinstance(content, str) else content[0].get("text/plain", "")
                if kind != label:
                    label = kind
                    before = styles.before_out if kind == _OUT else styles.before_err
                    lines.append(f"{before}{group.label(kind)}{styles.after} {text}")
                elif text:
                    lines.append(str(text))
            blocks.append("\n".join(lines))
        if groups[MAX_ROWS:]:
            blocks.append(_left_out(groups[MAX_ROWS:]))
        if done:
            blocks.append(f"[{compress_ids(done)}] done")
        gap = "\n\n" if any("\n" in block for block in blocks) else "\n"
        return gap.join(blocks)

    def __repr__(self) -> str:
        return self._lines(plain_styles()) if self._are_results() else super().__repr__()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        if self._are_results():
            printer.text(self._lines(session_styles()))
        else:
            printer.text(list.__repr__(self))

    def _repr_html_(self) -> str | None:
        return "".join(map(str, self._html_parts(False))) if self._are_results() else None

    def _html_parts(self, native: bool) -> Iterator[Any]:
        groups, done = self._arranged()
        yield from grouped_html(groups[:MAX_ROWS], done, native)
        if groups[MAX_ROWS:]:
            yield f"<div>{_left_out(groups[MAX_ROWS:])}</div>"

    def _ipython_display_(self) -> None:
        """Display each engine's objects in their own form, in front ends that show more than text."""
        if front_end() is not FrontEnd.NOTEBOOK or not self._are_results():
            raise NotImplementedError
        from IPython.display import publish_display_data

        for data, metadata in native_bundles(self._html_parts(True), repr(self)):
            publish_display_data(data, metadata)


def _left_out(groups: list[Grouped]) -> str:
    ids = {engine_id for group in groups for engine_id in group.ids}
    return f"[... output of engines {compress_ids(ids)} is not shown; the result has all ...]"


def _merged(column: Iterable[tuple[_Parts, tuple[Part, ...]]]) -> Iterator[Grouped]:
    """Yield groups; of many engines, those that wrote the same share one."""
    rows = [(engine, parts) for engine, parts in column if parts]
    if len(rows) <= MERGE_DISPLAY_ABOVE:
        for engine, parts in rows:
            yield Grouped((engine.engine_id,), engine.number, parts)
        return
    merged: dict[str, list[tuple[_Parts, tuple[Part, ...]]]] = {}
    for engine, parts in rows:
        merged.setdefault(repr(parts), []).append((engine, parts))
    for same in merged.values():
        numbers = {engine.number for engine, _ in same}
        number = numbers.pop() if len(numbers) == 1 else None
        yield Grouped(tuple(engine.engine_id for engine, _ in same), number, same[0][1])
