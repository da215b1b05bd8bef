"""Which waits of code on engines can never end; pure state, no I/O.

An engine whose code waits for work on engines is *held*: it runs nothing else before that ends.  Each item that it
waits for needs one of some engines to go on.  Held engines that need only each other (or themselves) never go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from ipython1.core.texts import compress_ids
from ipython1.kernel.wire.waits import Needs, Run

Alternatives: TypeAlias = frozenset[int]
"""Engines of which one has to go on for an item to end."""

NONE: Alternatives = frozenset()


class Requirement(NamedTuple):
    """What a wait requires.

    :ivar every: whether all items must end, or one is enough.
    :ivar items: the engines of each; an empty set for an item that needs none, or for which that is not known.
    """

    every: bool
    items: frozenset[Alternatives]

    def goes_on(self, stuck: set[int]) -> bool:
        """Whether the wait can end if all engines but ``stuck`` go on."""
        able = (not item or not item <= stuck for item in self.items)
        return all(able) if self.every else any(able)


Holders: TypeAlias = Mapping[int, list[Requirement]]
"""The held engines, with what each of their waits requires; the end of one of them lets the engine go on."""


def stuck_engines(holders: Holders) -> set[int]:
    """The held engines that can never go on."""
    stuck = set(holders)
    while True:
        free = {
            engine
            for engine in stuck
            if any(requirement.goes_on(stuck) for requirement in holders[engine])
        }
        if not free:
            return stuck
        stuck -= free


def on_circles(holders: Holders, stuck: set[int]) -> set[int]:
    """The stuck engines that wait for themselves, perhaps through others.  The rest waits only for these."""
    follows = {engine: _blocking(holders[engine], stuck) for engine in stuck}
    found = set()
    for engine in stuck:
        reached: set[int] = set()
        todo = list(follows[engine])
        while todo:
            other = todo.pop()
            if other not in reached:
                reached.add(other)
                todo.extend(follows[other])
        if engine in reached:
            found.add(engine)
    return found


def _blocking(requirements: Iterable[Requirement], stuck: set[int]) -> Alternatives:
    """The engines that items need of which no other engine can do."""
    items = (item for requirement in requirements for item in requirement.items)
    return NONE.union(*(item for item in items if item <= stuck))


class World(Protocol):
    """What is known of the engines and their work."""

    def is_running(self, engine: int, run: Run) -> bool:
        """Whether an engine has a command or task, and nobody has told it to end that."""

    def task_engines(self, client: str, task_id: int, runs: Mapping[int, Run]) -> Alternatives:
        """The engines of which one has to go on for a task to end; empty if it needs none, or is not known."""

    def command_engines(
        self, client: str, number: int, engines: tuple[int, ...], runs: Mapping[int, Run]
    ) -> Alternatives:
        """The same of a command."""

    def all_task_engines(self) -> Alternatives:
        """The engines that run tasks."""


class Victim(NamedTuple):
    """Waits of an engine that never end.

    :ivar numbers: the engine's numbers of them.
    :ivar message: what is wrong and what to do, for people.
    """

    engine: int
    numbers: list[int]
    message: str


class WaitGraph:
    """The waits of all engines, as they were told.

    ==========  ==========================================  ===================================
    a wait is   on                                          becomes
    ==========  ==========================================  ===================================
    (new)       :meth:`tell`                                known
    known       :meth:`tell`: it needs other things now     known
    known       :meth:`over`, :meth:`engine_gone`           (gone)
    known       :meth:`victims`: its run is over            (gone)
    known       :meth:`victims`: it never ends              (gone; its engine is told)
    ==========  ==========================================  ===================================
    """

    def __init__(self) -> None:
        self._waits: dict[int, dict[int, tuple[Run, Needs, int]]] = {}
        self._told = 0

    def __bool__(self) -> bool:
        return bool(self._waits)

    def tell(self, engine: int, number: int, run: Run, needs: Needs) -> None:
        """Code on an engine waits."""
        self._told += 1
        waits = self._waits.setdefault(engine, {})
        known = waits.get(number)
        since = self._told if known is None else known[2]
        waits[number] = (run, needs, since)

    def over(self, engine: int, number: int) -> None:
        """A wait has ended."""
        waits = self._waits.get(engine, {})
        waits.pop(number, None)
        if not waits:
            self.engine_gone(engine)

    def engine_gone(self, engine: int) -> None:
        """An engine is gone, or has registered again."""
        self._waits.pop(engine, None)

    def victims(self, world: World) -> list[Victim]:
        """Take out the waits that have to fail, so that all others can end.

        Of each circle this is the youngest one: it has closed the circle.
        """
        found: list[Victim] = []
        while True:
            self._forget_ended_runs(world)
            holders = self._holders(world)
            stuck = stuck_engines(holders)
            if not stuck:
                return found
            youngest = max(on_circles(holders, stuck), key=self._age)
            waits = self._waits.pop(youngest)
            all_needs = [needs for _, needs, _ in waits.values()]
            needed = sorted(_blocking(holders[youngest], stuck))
            message = _message(youngest, all_needs, needed)
            found.append(Victim(youngest, list(waits), message))

    def _age(self, engine: int) -> int:
        return max(since for _, _, since in self._waits[engine].values())

    def _forget_ended_runs(self, world: World) -> None:
        for engine, waits in list(self._waits.items()):
            for number, (run, _, _) in list(waits.items()):
                if not world.is_running(engine, run):
                    self.over(engine, number)

    def _holders(self, world: World) -> dict[int, list[Requirement]]:
        runs = {engine: next(iter(waits.values()))[0] for engine, waits in self._waits.items()}
        return {
            engine: [self._requirement(needs, world, runs) for _, needs, _ in waits.values()]
            for engine, waits in self._waits.items()
        }

    @staticmethod
    def _requirement(needs: Needs, world: World, runs: Mapping[int, Run]) -> Requirement:
        items = {world.task_engines(needs.client, each, runs) for each in needs.tasks}
        for number, engines in needs.commands:
            items.add(world.command_engines(needs.client, number, engines, runs))
        if needs.more and not needs.every:
            items.add(world.all_task_engines())
        if not needs:
            items.add(NONE)
        return Requirement(needs.every, frozenset(items))


def _message(engine: int, waits: list[Needs], needed: list[int]) -> str:
    tasks = sorted({task_id for needs in waits for task_id in needs.tasks})
    what = [_tasks(tasks)] if tasks else []
    if any(needs.commands for needs in waits):
        what.append("a call")
    if not what:
        what.append("any of its tasks, to submit more")
    if needed == [engine]:
        why = "only this engine could run it, and the code that waits holds it"
    elif len(needed) == 1:
        why = f"only engine {needed[0]} could run it, and its code waits for this engine in turn"
    else:
        why = (
            f"only engines {compress_ids(needed)} could run it, and code that waits holds them all"
        )
    return (
        f"code on engine {engine} waits for {' and '.join(what)}, which can never end: {why}. An engine runs one thing "
        "at a time, and code that waits keeps its engine. Return what the further calls need and make them from the "
        "client, or start more engines than there is code that waits"
    )


def _tasks(task_ids: list[int]) -> str:
    if len(task_ids) == 1:
        return f"task {task_ids[0]}"
    return f"{len(task_ids)} tasks ({compress_ids(task_ids)})"
