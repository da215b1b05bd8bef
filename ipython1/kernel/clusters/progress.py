"""How far the start of a cluster is: engines that were asked for, that are usable, that failed.

Pure: units are added, ids of usable engines and ends of units come in; :attr:`StartProgress.outcome` is one of

============  =========================================================
outcome       meaning
============  =========================================================
``waiting``   some that were asked for have neither come up nor failed
``complete``  all are usable
``partial``   some are usable, all others have failed
``failed``    none is usable and all have failed
============  =========================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipython1.core.texts import compress_ids
from ipython1.kernel.launchers.interfaces import Unit

MOST_FAILURES = 10
"""Different failures that are told one by one."""

MOST_LINES = 10
"""Lines of the output of each that are shown."""


@dataclass(frozen=True, slots=True)
class UnitFailure:
    """A unit that ended before all its engines were usable."""

    unit: Unit
    reason: str
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain lists and dicts."""
        key, ids = self.unit.key, list(self.unit.ids)
        return {"key": key, "ids": ids, "reason": self.reason, "lines": list(self.lines)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> UnitFailure:
        """From what :meth:`to_json` gave."""
        ids = tuple(content["ids"])
        unit = Unit(content["key"], max(len(ids), 1), ids)
        return cls(unit, content["reason"], tuple(content["lines"]))


def failure_lines(failures: Sequence[UnitFailure]) -> list[str]:
    """What to say about engines that did not come up; those with one reason and no output are told together."""
    groups: dict[tuple[str, str], list[UnitFailure]] = {}
    for failure in failures:
        alone = failure.unit.key if failure.lines or not failure.unit.ids else ""
        groups.setdefault((failure.reason, alone), []).append(failure)
    found = []
    told = list(groups.values())[:MOST_FAILURES]
    for group in told:
        first = group[0]
        ids = [each for failure in group for each in failure.unit.ids]
        who = f"engine{'s' if len(ids) > 1 else ''} {compress_ids(ids)}" if ids else first.unit.key
        last = "; its last lines:" if first.lines else ""
        found.append(f"{who} {first.reason}{last}")
        found += [f"    {line}" for line in first.lines[-MOST_LINES:]]
    more = len(failures) - sum(map(len, told))
    if more:
        found.append(f"and {more} more like these")
    return found


class StartProgress:
    """See the module's text.

    :param foreign: engines that were there before and do not count.
    """

    def __init__(self, foreign: Iterable[int] = ()) -> None:
        self._foreign = frozenset(foreign)
        self._units: dict[str, Unit] = {}
        self._ids: frozenset[int] = frozenset()
        self._claimed: frozenset[int] = frozenset()
        self._expected_more = True
        self.failures: dict[str, UnitFailure] = {}

    def add(self, units: Iterable[Unit]) -> None:
        """Engines that were asked for."""
        self._units.update((unit.key, unit) for unit in units)

    def all_added(self) -> None:
        """Everything was asked for; before this the outcome is ``waiting``."""
        self._expected_more = False

    def ids_changed(self, ids: Iterable[int], claimed: Iterable[int] = ()) -> None:
        """Engines that are usable now, all of the cluster's.

        :param claimed: the ids of those that others have started.
        """
        self._ids = frozenset(ids) - self._foreign
        self._claimed = frozenset(claimed)

    @property
    def _own(self) -> frozenset[int]:
        """Those that were asked for: by id where that is known, else whatever came that nobody else has started."""
        units = self._units.values()
        named = self._ids & {each for unit in units for each in unit.ids}
        if all(unit.ids for unit in units):
            return named
        return named | (self._ids - self._claimed)

    def unit_ended(self, key: str, reason: str, lines: Sequence[str] = ()) -> bool:
        """A unit came to its end; gives whether this is the failure of a start."""
        unit = self._units.get(key)
        if unit is None or key in self.failures:
            return False
        self.failures[key] = UnitFailure(unit, reason, tuple(lines))
        return True

    def comes_after_all(self, key: str) -> None:
        """A unit that counted as failed because its host was away is being started."""
        self.failures.pop(key, None)

    def shrinks(self, rest: Unit, ends: Mapping[int, str]) -> bool:
        """Some engines of a unit have ended, and the rest stays; gives whether this is the failure of a start."""
        if rest.key not in self._units or rest.key in self.failures:
            return False
        self._units[rest.key] = rest
        for engine_id, reason in ends.items():
            one = Unit(f"engine {engine_id}", 1, (engine_id,))
            self._units[one.key] = one
            self.failures[one.key] = UnitFailure(one, reason)
        return True

    def withdraw(self, key: str) -> None:
        """A unit is not wanted any more: it was removed before all its engines were usable."""
        if key not in self.failures:
            self._units.pop(key, None)

    @property
    def units(self) -> list[Unit]:
        """What was asked for."""
        return list(self._units.values())

    @property
    def wanted(self) -> int:
        """How many engines were asked for."""
        return sum(unit.count for unit in self._units.values())

    @property
    def usable(self) -> list[int]:
        """The ids of those that are usable."""
        return sorted(self._own)

    @property
    def failed(self) -> int:
        """How many will not come."""
        own = self._own
        lost = 0
        for failure in self.failures.values():
            unit = failure.unit
            if unit.ids:
                lost += sum(1 for each in unit.ids if each not in own)
            else:
                lost += unit.count
        return min(lost, max(0, self.wanted - len(own)))

    @property
    def outcome(self) -> str:
        """See the table."""
        own = self._own
        if self._expected_more or len(own) + self.failed < self.wanted:
            return "waiting"
        if not self.failed:
            return "complete"
        return "partial" if own else "failed"

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come."""
        return self.outcome != "waiting"

    def to_json(self) -> dict[str, Any]:
        """What became of it, as plain lists and dicts."""
        return {
            "ids": self.usable,
            "wanted": self.wanted,
            "failed": self.failed,
            "outcome": self.outcome,
            "failures": [each.to_json() for each in self.failures.values()],
        }
