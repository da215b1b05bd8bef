"""The methods of MultiEngine clients, blocking and asynchronous alike.

What a method returns is what the client's ``_run`` makes of its request: the result or a ``PendingResult`` in
the blocking client, a Deferred of either in the asynchronous one.
"""

from __future__ import annotations

import tokenize
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zope.interface import implementer

from ipython1.checks import is_number
from ipython1.kernel.calls import requests
from ipython1.kernel.calls.calls import Request, Targets, normalize_targets
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.mapper import IMultiEngineMapperFactory, MultiEngineMapper
from ipython1.kernel.calls.parallelfunction import IMultiEngineParallelDecorator, ParallelFunction
from ipython1.kernel.calls.resultlist import QueueStatusList
from ipython1.kernel.calls.stacklist import InterruptList, StackList
from ipython1.kernel.wire.payload import Serialized


@implementer(IMultiEngineMapperFactory, IMultiEngineParallelDecorator)
class MultiEngineMethods:
    """Base of the MultiEngine clients.

    :ivar targets: the engines that calls act on which do not name others: an id, a list of ids, or ``'all'``.
    :ivar block: whether calls that do not say otherwise wait for their results.

    Every method that takes ``targets`` and ``block`` uses these attributes where an argument is None.  All
    engines finish before a call returns; if any failed, a :class:`~ipython1.kernel.error.CompositeError` is raised.
    """

    def __init__(self, connection: Connection) -> None:
        self.targets: Targets = "all"
        self.block = True
        self._connection = connection

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of {self._connection.location}: "
            f"targets={self.targets!r}, block={self.block}>"
        )

    def _options(self, targets: Targets, block: bool | None) -> tuple[tuple[int, ...] | None, bool]:
        chosen = self.targets if targets is None else targets
        known = sorted(self._connection.end.ids) if isinstance(chosen, slice) else ()
        return normalize_targets(chosen, known), self._block(block)

    def _block(self, block: bool | None) -> bool:
        chosen = self.block if block is None else block
        if not isinstance(chosen, (bool, int)):
            raise TypeError(f"block must be True or False, not {chosen!r}")
        return bool(chosen)

    def _streams(self) -> bool:
        """Whether engines shall send output while a command runs."""
        return False

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        raise NotImplementedError

    def _ask(
        self,
        name: str,
        block: bool | None,
        finish: Callable[[Any], Any] = lambda value: value,
        **args: Any,
    ) -> Any:
        raise NotImplementedError

    # -- engines

    def execute(self, lines: str, targets: Targets = None, block: bool | None = None) -> Any:
        """Run Python or IPython code.

        :returns: a :class:`ResultList` of dicts with ``id``, ``number``, ``input`` (``raw``, ``translated``),
            ``stdout``, ``stderr``, ``result`` (MIME type to data), ``display``, ``started``, ``completed`` and
            ``duration`` (seconds); what is empty is left out.
        """
        return self._run(requests.execute(lines, self._streams()), targets, block)

    def run(self, filename: str, targets: Targets = None, block: bool | None = None) -> Any:
        """Run a local file's code, like :meth:`execute`.

        :raises OSError: when it cannot be read.
        """
        # As the interpreter reads it: UTF-8, or what the file itself says.
        with tokenize.open(Path(filename).expanduser()) as file:
            lines = file.read()
        return self._run(requests.execute(lines, self._streams()), targets, block)

    def get_result(
        self, i: int | None = None, targets: Targets = None, block: bool | None = None
    ) -> Any:
        """What command number ``i`` gave on each engine; None for the last."""
        return self._run(requests.get_result(i), targets, block)

    def reset(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Forget all user names."""
        return self._run(requests.reset(), targets, block)

    def keys(self, targets: Targets = None, block: bool | None = None) -> Any:
        """The user's names on each engine, sorted."""
        return self._run(requests.keys(), targets, block)

    def interrupt(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Interrupt what runs now, as Ctrl-C would, and nothing that comes after it; namespaces and queues are kept.

        :returns: an :class:`InterruptList`, after a second at most, that tells where this had no effect.
        """
        ids, _ = self._options(targets, block)
        return self._ask("interrupt", block, InterruptList.of, targets=ids)

    def stacks(
        self, targets: Targets = None, timeout: float = 1.0, block: bool | None = None
    ) -> Any:
        """Where each engine's code is right now; asks without disturbing it.

        :param timeout: seconds that an engine's interpreter has to answer.
        :returns: a :class:`StackList`.
        """
        ids, _ = self._options(targets, block)
        if not is_number(timeout) or timeout <= 0:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        return self._ask("stacks", block, StackList.of, targets=ids, within=float(timeout))

    # -- moving objects

    def push(
        self, namespace: Mapping[str, Any], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Set each name of ``namespace`` to its object on the engines; gives ``[None, ...]``."""
        return self._run(requests.push(namespace, not self._block(block)), targets, block)

    def pull(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """The objects of a name, one per engine; of several names, a list of them per engine."""
        return self._run(requests.pull(keys), targets, block)

    def zip_pull(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Like :meth:`pull` of several names, but a tuple of all engines' objects per name."""
        return self._run(requests.zip_pull(keys), targets, block)

    def push_function(
        self,
        namespace: Mapping[str, Callable[..., Any]],
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Define functions on the engines; they see the names of the engine they run on."""
        return self._run(requests.push_function(namespace), targets, block)

    def pull_function(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Functions from the engines, like :meth:`pull`; they see this session's names."""
        return self._run(requests.pull_function(keys), targets, block)

    def push_serialized(
        self,
        namespace: Mapping[str, Serialized],
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Like :meth:`push`, with objects that are serialized already."""
        return self._run(requests.push_serialized(namespace), targets, block)

    def pull_serialized(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Like :meth:`pull`, without rebuilding the objects."""
        return self._run(requests.pull_serialized(keys), targets, block)

    def scatter(
        self,
        key: str,
        seq: Any,
        dist: str = "b",
        flatten: bool = False,
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Cut a sequence and push one part to each engine.

        :param dist: ``'b'`` for contiguous blocks, ``'r'`` for round-robin, or one that was registered.
        :param flatten: push the element instead of a part of length one.
        """
        request = requests.scatter(key, seq, dist, flatten, not self._block(block))
        return self._run(request, targets, block)

    def gather(
        self, key: str, dist: str = "b", targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Pull the parts of a sequence and put them together; arrays along axis 0."""
        return self._run(requests.gather(key, dist), targets, block)

    # -- modules and files

    def push_module(self, module: Any, targets: Targets = None, block: bool | None = None) -> Any:
        """Give engines the source of a module or package that they lack, or have in another version.

        :param module: a module, its dotted name, or the path of its file or directory.
        :returns: for each engine whether it took it; False where it had the same already.
        """
        from ipython1.kernel.calls.modules import push_module

        return self._run(push_module(module), targets, block)

    def push_files(
        self,
        files: Any,
        directory: str | None = None,
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Copy local files to the engines.

        :param files: a path, or a list of paths; directories are copied with all that is in them.
        :param directory: where to put them there; None for the engine's working directory.
        :returns: for each engine the list of the paths there.
        """
        from ipython1.kernel.calls.modules import push_files

        return self._run(push_files(files, directory), targets, block)

    # -- calling functions

    def apply(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``func(*args, **kwargs)`` on each engine of ``mec.targets``; ``mec.block`` says whether to wait.

        A function of your session sees the names of the engine that it runs on.  What it writes is not shown.

        :returns: what it returned, a list with a value for each target, in their order.
        """
        request = requests.apply("apply", func, args, kwargs, not self.block)
        return self._run(request, None, None)

    def map(self, func: Callable[..., Any], *sequences: Any) -> Any:
        """``list(map(func, *sequences))``, in parallel on ``targets``."""
        return self.raw_map(func, sequences, "b", self.targets, self.block)

    def raw_map(
        self,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        dist: str = "b",
        targets: Targets = "all",
        block: bool | None = None,
    ) -> Any:
        """A map over a list of ``sequences``, with all options."""
        request = requests.raw_map(func, sequences, dist, not self._block(block))
        return self._run(request, targets, block)

    def mapper(
        self, dist: str = "b", targets: Targets = "all", block: bool | None = None
    ) -> MultiEngineMapper:
        """An object whose ``map`` has these options."""
        return MultiEngineMapper(self, dist, targets, block)

    def parallel(
        self, dist: str = "b", targets: Targets = None, block: bool | None = None
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """A decorator: the function is called with sequences and applied to their items, in parallel."""
        chosen = self.targets if targets is None else targets
        mapper = MultiEngineMapper(self, dist, chosen, block)
        return lambda func: ParallelFunction(func, mapper)

    # -- queues and pending results

    def queue_status(self, targets: Targets = None, block: bool | None = None) -> Any:
        """What runs and what waits on each engine: a list of ``(id, {'pending': ..., 'queue': [...]})``."""
        ids, _ = self._options(targets, block)

        def finish(rows: list[Any]) -> QueueStatusList:
            return QueueStatusList((engine_id, status) for engine_id, status in rows)

        return self._ask("queue_status", block, finish, targets=ids)

    def clear_queue(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Remove what has not begun; each of those calls fails with ``QueueCleared``."""
        ids, _ = self._options(targets, block)
        return self._ask("clear_queue", block, lambda count: None, targets=ids)

    # -- properties

    def set_properties(
        self, properties: Mapping[str, Any], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Set properties of the engines, by which tasks can choose among them."""
        return self._run(requests.set_properties(properties), targets, block)

    def get_properties(
        self,
        keys: str | Sequence[str] | None = None,
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Each engine's properties as a dict: all, or those named."""
        return self._run(requests.get_properties(keys), targets, block)

    def has_properties(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Which of the properties each engine has: a list of bools per engine."""
        return self._run(requests.has_properties(keys), targets, block)

    def del_properties(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Delete properties."""
        return self._run(requests.del_properties(keys), targets, block)

    def clear_properties(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Delete all properties."""
        return self._run(requests.clear_properties(), targets, block)
