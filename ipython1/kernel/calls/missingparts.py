"""Whether the engines of a call have all parts of the sequences that were scattered.

Each engine tells what it knows of parts (:mod:`ipython1.kernel.engine.parts`).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import NotDefined, PartsMissing
from ipython1.kernel.calls.calls import Reading
from ipython1.kernel.objects.commands import PULLED, PartsTold
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome

MOST_SHOWN: Final = 8
"""Engines that an error proposes as targets; more are left to the user."""

Known = Mapping[int, PartsTold]
"""What engines tell of what they give, by their ids."""


def in_order(key: str, readings: list[Reading], outcomes: Sequence[Outcome]) -> list[Reading]:
    """Return what all engines have under a name, in the order of the parts.

    :raises PartsMissing: if that is not the whole, as far as it is known.
    """
    known = _known(outcomes)
    problem = _problem([key], readings, known)
    if problem:
        raise PartsMissing(problem)
    own = [
        (engine_id, part)
        for engine_id, told in known.items()
        for part in told.parts
        if part.name == key
    ]
    places = {engine_id: part.number for engine_id, part in own}
    if len(places) == len(own) == len(readings) and len({part.scatter for _, part in own}) == 1:
        return sorted(readings, key=lambda reading: places[reading.engine_id])
    return readings


def with_warning(
    keys: Sequence[str], readings: list[Reading], outcomes: Sequence[Outcome]
) -> list[Reading]:
    """Return what all engines have under names; warn if that is not the whole, as far as it is known."""
    problem = _problem(keys, readings, _known(outcomes))
    if problem:
        warnings.warn(problem, RuntimeWarning, stacklevel=_level_of_user())
    return readings


def _level_of_user() -> int:
    """Return the ``stacklevel``, for the caller, of the code that uses this package."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ipython1."):
        level, frame = level + 1, frame.f_back
    return level + 1


def _known(outcomes: Sequence[Outcome]) -> Known:
    return {
        each.engine_id: PULLED.read_told(each.buffers)
        for each in outcomes
        if each.status == messages.OK and each.error is None
    }


def _problem(keys: Sequence[str], readings: Sequence[Reading], known: Known) -> str:
    """Say which parts are missing; empty if none is, or an engine's failure says more."""
    lacking = {each.engine_id for each in readings if isinstance(each.failure, NotDefined)}
    if any(each.failure is not None and each.engine_id not in lacking for each in readings):
        return ""
    found: dict[str, str] = {}
    without = set(lacking)
    for name, ids in _scatters(known):
        if lacking and name not in keys:
            continue  # that they lack the other name says more
        gone = [each for each in ids if each not in known and each not in lacking]
        new = [each for each in ids if each in known and _never_had(known[each], name)]
        new += lacking
        if gone or new:
            found[name] = f"{name!r} was scattered to {_engines(ids)}, but {_why(gone, new)}"
            without.update(new)
    if not found:
        return ""
    them = "it" if len(found) == 1 else "them"
    advice = f"Scatter {them} again"
    derived = sorted(set(keys) - found.keys())
    if derived:
        names = ", ".join(map(repr, derived))
        advice = f"From {them} came {names}. Scatter {them} and compute again"
    return f"{'; '.join(found.values())}. {advice}{_instead(sorted(known.keys() - without))}"


def _never_had(told: PartsTold, name: str) -> bool:
    return told.names is not None and name not in told.names


def _scatters(known: Known) -> Iterator[tuple[str, list[int]]]:
    """Return the name and the engines of each scatter of which some engine gives a part, or what comes from it."""
    parts = {part.scatter: part for told in known.values() for part in told.parts}
    for part in parts.values():
        runs = (range(first, first + count) for first, count in part.engines)
        yield part.name, list(chain.from_iterable(runs))


def _engines(ids: Sequence[int]) -> str:
    return f"engine{'s' * (len(ids) > 1)} {compress_ids(ids)}"


def _why(gone: Sequence[int], new: Sequence[int]) -> str:
    reasons = []
    if gone:
        reasons.append(f"{_engines(gone)} {'are' if len(gone) > 1 else 'is'} gone")
    if new:
        reasons.append(f"{_engines(new)} {'have' if len(new) > 1 else 'has'} no part of it")
    return " and ".join(reasons)


def _instead(left: Sequence[int]) -> str:
    if not left:
        return ""
    which = f": targets={left}" if len(left) <= MOST_SHOWN else ""
    return f", or name the engines whose parts you want{which}"
