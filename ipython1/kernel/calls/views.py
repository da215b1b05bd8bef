"""Views: some of a client's engines, with the client's methods.

``mec[0]``, ``mec[1:3]`` and ``mec[[0, 2]]`` are views; the blocking and the asynchronous client have their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import ClientError, InvalidEngineID, NoEnginesRegistered
from ipython1.kernel.calls.calls import Request, Targets, normalize_targets
from ipython1.kernel.calls.multienginemethods import MultiEngineMethods
from ipython1.kernel.calls.stacklist import StackList
from ipython1.kernel.wire.callhistory import CallEntry


class Selection:
    """Some of the engines, as an index names them.

    :param which: an id; a slice, which selects the ids in its range that there are; or several ids.
    :param ids: returns the ids that there are; asked again with True where they may have changed.
    :param whose: what has these ids, for errors.
    :ivar ids: the ids, in order.
    :ivar single: whether an id was given.
    :ivar whole: whether these are all engines, whichever there are.
    :raises TypeError, InvalidEngineID, NoEnginesRegistered: if it names no engines.
    """

    single: bool
    ids: list[int]

    def __init__(self, which: Any, ids: Callable[[bool], Sequence[int]], whose: str = "") -> None:
        self.whole: bool = which == slice(None) if isinstance(which, slice) else False
        if isinstance(which, slice):
            self.single = False
            self.ids = _in_range(which, ids(True))
            return
        if isinstance(which, (str, dict, bytes)) or which is None:
            raise TypeError(
                f"an index must be a name, an id, a slice or a list of ids, not {which!r}"
            )
        self.single = not hasattr(which, "__iter__")
        _refuse_negative(which)
        self.ids = list(normalize_targets(which) or ())
        there = ids(False)
        if not set(self.ids) <= set(there):
            there = ids(True)
        _check_known(self.ids, there, whose)


def _refuse_negative(which: Any) -> None:
    first = next(iter(which), 0) if isinstance(which, (list, tuple)) else which
    if isinstance(first, int) and first < 0:
        raise InvalidEngineID(
            f"there is no engine {first}: the index is an id, not a position; ids[{first}] is the id at that position"
        )


def _check_known(wanted: Sequence[int], there: Sequence[int], whose: str) -> None:
    unknown = [each for each in wanted if each not in set(there)]
    if not there:
        raise NoEnginesRegistered("no engines are registered")
    if unknown:
        raise InvalidEngineID(
            f"there is no engine {unknown[0]}{whose}; the engines are {compress_ids(there)}"
        )


def _in_range(which: slice, there: Sequence[int]) -> list[int]:
    """Return the ids that a slice of ids selects."""
    bounds = [each for each in (which.start, which.stop) if each is not None]
    ()[which]  # checks the types
    if any(each < 0 for each in bounds):
        raise InvalidEngineID(
            "a slice selects ids, not positions, and ids are not negative; use ids[...] for positions"
        )
    if not there:
        raise NoEnginesRegistered("no engines are registered")
    found = [each for each in range(*which.indices(max(there) + 1)) if each in set(there)]
    if not found:
        shown = ":".join("" if each is None else str(each) for each in (which.start, which.stop))
        raise InvalidEngineID(
            f"there is no engine with an id in {shown}; the engines are {compress_ids(there)}"
        )
    return found


class EngineView(MultiEngineMethods):
    """The part of a view that both kinds of clients have in common.

    :ivar targets: as a client's, but only engines of the view; initially all of them, an id in the view of one engine.
    :ivar block: as a client's; initially that of the client.
    """

    _client: Any
    _selection: Selection

    def _begin(self, client: Any, selection: Selection, block: bool) -> None:
        MultiEngineMethods.__init__(self, client._connection)
        self._client = client  # which closes its connection when nothing refers to it
        self._selection = selection
        self.targets: int | list[int] = (
            selection.ids[0] if selection.single else list(selection.ids)
        )
        self.block = block

    def __reduce__(self) -> Any:
        raise TypeError("a view of engines cannot be pickled; create a client where it is needed")

    @property
    def ids(self) -> list[int]:
        """The ids of the engines of the view, in its order."""
        return list(self._selection.ids)

    def _options(self, targets: Targets, block: bool | None) -> tuple[tuple[int, ...], bool]:
        own = self._selection.ids
        chosen = self.targets if targets is None else targets
        ids = normalize_targets(chosen, own)
        if ids is None:
            return tuple(own), self._block(block)
        _check_known(ids, own, " in this view")
        return ids, self._block(block)

    def _names_all(self, targets: Targets) -> bool:
        chosen: Any = self.targets if targets is None else targets
        is_all = isinstance(chosen, str) or chosen == self._selection.ids
        return self._selection.whole and is_all

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        __tracebackhide__ = True
        ids, blocks = self._options(targets, block)
        if self._selection.single:
            request = request.of_one()
        return self._client._run_on(request, ids, blocks)

    def _ask(
        self,
        name: str,
        block: bool | None,
        finish: Callable[[Any], Any] = lambda value: value,
        **args: Any,
    ) -> Any:
        return self._client._ask(name, self._block(block), finish, **args)

    def _stacks(self, rows: list[Any]) -> StackList:
        stacks: StackList = self._client._stacks(rows)
        return stacks

    def _selected(self, which: Any) -> Selection:
        return Selection(which, lambda again: self._selection.ids, " in this view")

    def result_of(self, call: CallEntry | str, block: bool | None = None) -> Any:
        return self._client.result_of(call, self._block(block))

    result_of.__doc__ = MultiEngineMethods.result_of.__doc__

    def close(self) -> Any:
        """Refuse to close what belongs to the client.

        :raises ClientError: always.
        """
        raise ClientError("a view has no connection of its own; close the client")

    def _check_kill(self, controller: bool) -> None:
        if controller is True:
            raise ClientError(
                "a view can only end its own engines; the client's kill(controller=True) ends the controller"
            )
