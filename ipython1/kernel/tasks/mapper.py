"""Load-balanced mappers and parallel functions, and the clients' methods that create them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from zope.interface import Interface, implementer

from ipython1.kernel.basics.attributes import CheckedAttributes, Setting, yes_or_no
from ipython1.kernel.calls.mapper import IMapper
from ipython1.kernel.calls.parallelfunction import ParallelFunction
from ipython1.kernel.objects.taskoptions import (
    DEFAULTS,
    LaterOptions,
    TaskOptions,
    make_options,
    shows_options,
)


class ITaskMapperFactory(Interface):
    """Creates load-balanced mappers."""

    def mapper(
        clear_before: bool = False,
        clear_after: bool = False,
        retries: int = 0,
        recovery_task: Any = None,
        depend: Callable[[dict[str, Any]], Any] | None = None,
        block: bool = True,
        **options: Any,
    ) -> Any:
        """Create a mapper with these and all other options of tasks."""


class ITaskParallelDecorator(Interface):
    """Creates load-balanced parallel functions."""

    def parallel(
        clear_before: bool = False,
        clear_after: bool = False,
        retries: int = 0,
        recovery_task: Any = None,
        depend: Callable[[dict[str, Any]], Any] | None = None,
        block: bool = True,
        **options: Any,
    ) -> Any:
        """Return a decorator with these and all other options of tasks."""


def check_task_options(name: str, options: TaskOptions) -> TaskOptions:
    """Check the options of tasks, as an attribute called ``name``.

    :raises TypeError, ValueError: if they are something else, or one of them is invalid.
    """
    if not isinstance(options, TaskOptions):
        raise TypeError(f"{name} must be TaskOptions, not {options!r:.100}")
    options.check()
    return options


@implementer(IMapper)
class TaskMapper(CheckedAttributes):
    """Maps with tasks.

    :param client: a blocking or asynchronous task client.
    :param options: the options of the tasks.
    :param block: whether ``map`` waits for the values; default: True.

    All parameters are attributes as well, and are checked when they are set.
    """

    client: Any
    options = Setting[TaskOptions](DEFAULTS, check_task_options)
    block = Setting[bool](True, yes_or_no)

    def __init__(self, client: Any, options: TaskOptions = DEFAULTS, block: bool = True) -> None:
        self.client = client
        self.options = options
        self.block = block

    def map(self, func: Callable[..., Any], *sequences: Any) -> Any:
        """Map a function over sequences, load-balanced.

        :param func: the function; it is called with one item of each sequence.
        :param sequences: at least one iterable; the shortest determines the number of calls.
        :returns: a list of the results, in the order of the items; with ``block=False``, a pending result of it.  With
            an asynchronous client, a Deferred of either.
        :raises CompositeError: if calls failed; its ``results`` contain all results, with exceptions in place of those
            that failed.
        :raises TypeError, ValueError: if an option or argument is invalid.
        """
        return self.client.run_map(func, sequences, self.options, self.block)


class MapMethods:
    """The methods of task clients that create mappers."""

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
        """Create a mapper, whose ``map`` uses these options.

        With ``retries``, a ``recovery_task``, ``clear_before``, ``clear_after`` or a ``timeout``, each item is a
        separate task; otherwise, short items are grouped.

        {options}
        :param block: whether ``map`` waits; default: True.  If False, ``map`` returns a ``PendingResult`` at once, or
            with an asynchronous client a Deferred of an ``AsyncPendingMap``.
        :returns: the mapper, which can be used repeatedly.
        """
        five = (clear_before, clear_after, retries, recovery_task, depend)
        given = make_options("mapper()", *five, **options)
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
        """Return a decorator for functions that are called with sequences and applied to their items, load-balanced.

        {options}
        :param block: as for :meth:`mapper`.
        :returns: a decorator, which returns a :class:`~ipython1.kernel.parallelfunction.ParallelFunction`.
        """
        five = (clear_before, clear_after, retries, recovery_task, depend)
        mapper = TaskMapper(self, make_options("parallel()", *five, **options), block)
        return lambda func: ParallelFunction(func, mapper)

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> Any:
        """Map with all options; used by :class:`TaskMapper`."""
        raise NotImplementedError
