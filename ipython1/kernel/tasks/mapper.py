"""Load-balanced mappers and parallel functions, and the clients' methods that create them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from zope.interface import Interface, implementer

from ipython1.kernel.basics.attributes import CheckedAttributes, Setting, yes_or_no
from ipython1.kernel.basics.publicmethods import reports_errors
from ipython1.kernel.calls.mapper import IMapper
from ipython1.kernel.calls.parallelfunction import ParallelFunction
from ipython1.kernel.objects.taskoptions import (
    DEFAULTS,
    NAMES,
    LaterOptions,
    OptionKeywords,
    TaskOptions,
    all_values,
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
    options: Setting[TaskOptions] = Setting(DEFAULTS, check_task_options)
    block: Setting[bool] = Setting(True, yes_or_no)

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


@reports_errors
class CallsWithOptions:
    """Calls of a task client with the same options; ``with_options`` of a task client creates it.

    Each method is that of the client, and returns the same.
    """

    def __init__(self, client: MapMethods, options: TaskOptions) -> None:
        self._client = client
        self._options = options

    def __repr__(self) -> str:
        given = [
            f"{name}={value!r:.40}"
            for name, value in zip(NAMES, all_values(self._options), strict=True)
            if value != getattr(DEFAULTS, name)
        ]
        return f"<calls with {', '.join(given) or 'the default options'}>"

    def submit(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function on an engine; see ``submit`` of the client."""
        return self._client.run_submit(func, args, kwargs, self._options)

    def map(self, func: Callable[..., Any], *sequences: Any, block: bool = True) -> Any:
        """Map a function over sequences; see ``map`` of the client."""
        return self._client.run_map(func, sequences, self._options, yes_or_no("block", block))

    def imap(
        self,
        func: Callable[..., Any],
        *sequences: Any,
        ordered: bool = True,
        outstanding: int | None = None,
    ) -> Any:
        """Map a function over sequences that may be endless; see ``imap`` of the client."""
        return self._client.run_imap(func, sequences, self._options, ordered, outstanding)


class MapMethods:
    """The methods of task clients that create mappers, and calls with options."""

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

    @shows_options
    def with_options(self, **options: Unpack[OptionKeywords]) -> CallsWithOptions:
        """Return an object whose ``submit``, ``map`` and ``imap`` are this client's, with these options.

        {options}
        :returns: the object, which can be used repeatedly.
        """
        return CallsWithOptions(self, make_options("with_options()", **options))

    def run_submit(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Any:
        """Submit a call with all options; used by :class:`CallsWithOptions`."""
        raise NotImplementedError

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> Any:
        """Map with all options; used by :class:`TaskMapper`."""
        raise NotImplementedError

    def run_imap(
        self,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        options: TaskOptions,
        ordered: bool,
        outstanding: int | None,
    ) -> Any:
        """Map lazily with all options; used by :class:`CallsWithOptions`."""
        raise NotImplementedError
