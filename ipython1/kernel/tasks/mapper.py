"""Mappers and parallel functions whose items are shared out among engines, and the clients' methods that make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from zope.interface import Interface, implementer

from ipython1.kernel.calls.mapper import IMapper
from ipython1.kernel.calls.parallelfunction import ParallelFunction
from ipython1.kernel.objects.taskoptions import DEFAULTS, LaterOptions, TaskOptions, shows_options


class ITaskMapperFactory(Interface):
    """Makes mappers that share items out among engines."""

    def mapper(
        clear_before: bool = False,
        clear_after: bool = False,
        retries: int = 0,
        recovery_task: Any = None,
        depend: Callable[[dict[str, Any]], Any] | None = None,
        block: bool = True,
        **options: Any,
    ) -> Any:
        """A mapper with these options, and all others that tasks have."""


class ITaskParallelDecorator(Interface):
    """Makes parallel functions whose items are shared out among engines."""

    def parallel(
        clear_before: bool = False,
        clear_after: bool = False,
        retries: int = 0,
        recovery_task: Any = None,
        depend: Callable[[dict[str, Any]], Any] | None = None,
        block: bool = True,
        **options: Any,
    ) -> Any:
        """A decorator with these options, and all others that tasks have."""


@implementer(IMapper)
class TaskMapper:
    """Maps over tasks.

    :param client: a task client, blocking or not.
    :param options: those of the tasks.
    :param block: whether ``map`` waits for the values.
    """

    def __init__(self, client: Any, options: TaskOptions = DEFAULTS, block: bool = True) -> None:
        self.client = client
        self.options = options
        self.block = block

    def map(self, func: Callable[..., Any], *sequences: Any) -> Any:
        """``list(map(func, *sequences))``, shared out among the engines.

        :param func: is called on engines with an item of each sequence.
        :param sequences: the shortest ends the map.
        :returns: what the client's ``map`` gives; with ``block=False``, what stands for a map that may not be
            finished.
        :raises CompositeError: when calls failed; its ``results`` hold all values, and an exception in each
            failed place.
        :raises TypeError, ValueError: when an option, or an argument, is wrong.
        """
        return self.client.run_map(func, sequences, self.options, self.block)


class MapMethods:
    """The methods of task clients that make mappers."""

    @shows_options
    def mapper(
        self,
        clear_before: bool = False,
        clear_after: bool = False,
        retries: int = 0,
        recovery_task: Any = None,
        depend: Callable[[dict[str, Any]], Any] | None = None,
        block: bool = True,
        **options: Unpack[LaterOptions],
    ) -> TaskMapper:
        """An object whose ``map`` has these options.

        With ``retries``, a ``recovery_task``, ``clear_before``, ``clear_after`` or a ``timeout``, each item is a
        task of its own; else short ones are grouped.

        {options}
        :param block: False has ``map`` return what stands for a map that may not be finished: a ``PendingResult``,
            or of an asynchronous client a Deferred of an ``AsyncPendingMap``, at once. Default True.
        :returns: the mapper, which can be kept and used again.
        """
        given = TaskOptions(clear_before, clear_after, retries, recovery_task, depend, **options)
        return TaskMapper(self, given, block)

    @shows_options
    def parallel(
        self,
        clear_before: bool = False,
        clear_after: bool = False,
        retries: int = 0,
        recovery_task: Any = None,
        depend: Callable[[dict[str, Any]], Any] | None = None,
        block: bool = True,
        **options: Unpack[LaterOptions],
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """A decorator: the function is called with sequences and applied to their items, shared out among the engines.

        {options}
        :param block: as for :meth:`mapper`.
        :returns: what makes a :class:`~ipython1.kernel.parallelfunction.ParallelFunction` of a function.
        """
        mapper = self.mapper(
            clear_before, clear_after, retries, recovery_task, depend, block, **options
        )
        return lambda func: ParallelFunction(func, mapper)

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> Any:
        """A map with all options; for :class:`TaskMapper`."""
        raise NotImplementedError
