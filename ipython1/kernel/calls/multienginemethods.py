"""The methods shared by the blocking and asynchronous MultiEngine clients.

Each method returns what the client's ``_run`` returns for its request: a result or a ``PendingResult`` in the blocking
client, a Deferred of either in the asynchronous one.
"""

from __future__ import annotations

import io
import os
import tokenize
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zope.interface import implementer

from ipython1.kernel.basics.publicmethods import reports_errors
from ipython1.kernel.calls import requests
from ipython1.kernel.calls.calls import Targets
from ipython1.kernel.calls.controllerquestions import ControllerQuestions
from ipython1.kernel.calls.mapper import IMultiEngineMapperFactory, MultiEngineMapper
from ipython1.kernel.calls.parallelfunction import IMultiEngineParallelDecorator, ParallelFunction
from ipython1.kernel.wire.payload import Serialized
from ipython1.regularfiles import read_regular, read_regular_text


@reports_errors
@implementer(IMultiEngineMapperFactory, IMultiEngineParallelDecorator)
class MultiEngineMethods(ControllerQuestions):
    """Base of the MultiEngine clients.

    :ivar targets: the default targets of calls: an id, a list of ids, a slice of the sorted ids, or ``'all'``, which
        is the initial value.
    :ivar block: whether calls wait for their results by default; initially True.

    Both are checked when they are set; whether the engines exist is checked by each call.  Other attributes are
    refused.

    ``len(mec)`` is the number of engines, ``3 in mec`` asks for an id, and iteration yields the ids, sorted.

    Every method with the parameters ``targets`` and ``block`` uses these attributes where an argument is None.  With
    ``block=False`` it returns a :class:`~ipython1.kernel.pendingresult.PendingResult` instead of the result.  The
    methods of the asynchronous client return Deferreds that fire with the same values.

    What a call is given is sent as it is when the call returns.  A call that does not wait copies arrays for this, and
    calls of the asynchronous client always do.  A call that waits sends arrays from where they are in memory: do not
    change them in another thread meanwhile, nor after Ctrl-C has ended the wait.

    A blocking call returns when all targets are done.  The methods raise

    * :class:`~ipython1.kernel.error.CompositeError` if any engine failed;
    * :class:`~ipython1.kernel.error.InvalidEngineID` if ``targets`` names an engine that does not exist, and
      :class:`~ipython1.kernel.error.NoEnginesRegistered` if no engine is registered;
    * :class:`~ipython1.kernel.error.ConnectionError` if the connection to the controller is lost;
    * ``TypeError`` or ``ValueError`` if an argument is invalid; nothing is sent then.
    """

    # -- engines

    def execute(self, lines: str, targets: Targets = None, block: bool | None = None) -> Any:
        """Run Python or IPython code.

        :param lines: the source: statements, magics and shell commands.
        :returns: a :class:`ResultList` of dicts with ``id``, ``number``, ``input`` (``raw``, ``translated``),
            ``stdout``, ``stderr``, ``result`` (MIME type to data), ``display``, ``started``, ``completed`` and
            ``duration`` (seconds); what is empty is left out.
        """
        return self._run(requests.execute(lines, self._streams()), targets, block)

    def run(self, filename: str, targets: Targets = None, block: bool | None = None) -> Any:
        """Run the code of a local file.

        :param filename: the path of the file on this host.
        :returns: as for :meth:`execute`.
        :raises OSError: if the file cannot be read or is not a regular file.
        """
        if not isinstance(filename, (str, os.PathLike)):
            raise TypeError(f"filename must be the path of a file, not {filename!r:.100}")
        path = Path(filename).expanduser()
        # As the interpreter reads it: in UTF-8 or the encoding that the file declares.
        encoding, _ = tokenize.detect_encoding(io.BytesIO(read_regular(path)).readline)
        lines = read_regular_text(path, encoding)
        return self._run(requests.execute(lines, self._streams()), targets, block)

    def get_result(
        self, i: int | None = None, targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Fetch the results of an earlier command again.

        :param i: the number of the command on each engine; default: the last command.
        :returns: as for :meth:`execute`.
        """
        return self._run(requests.get_result(i), targets, block)

    def reset(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Delete all names from the engines' namespaces.

        :returns: a list with None for each target.
        """
        return self._run(requests.reset(), targets, block)

    def keys(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Fetch the names that are defined on the engines.

        :returns: a sorted list of names for each target.
        """
        return self._run(requests.keys(), targets, block)

    # -- moving objects

    def push(
        self, namespace: Mapping[str, Any], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Define names on the engines.

        :param namespace: the names and their objects.
        :returns: a list with None for each target.
        :raises SerializationError: if an object cannot be pickled.
        """
        return self._run(requests.push(namespace, self._snapshot(block)), targets, block)

    def pull(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Fetch objects from the engines by name.

        :param keys: a name or a list of names.
        :returns: for each target, the object of a single name, or a list of the objects of several names.  There is a
            ``RuntimeWarning`` where :meth:`gather` would raise ``PartsMissing``.
        """
        return self._run(requests.pull(keys, self._names_all(targets)), targets, block)

    def zip_pull(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Fetch objects from the engines, grouped by name.

        :param keys: a name or a list of names.
        :returns: for each name, a tuple with the objects of all targets.
        """
        return self._run(requests.zip_pull(keys, self._names_all(targets)), targets, block)

    def push_function(
        self,
        namespace: Mapping[str, Callable[..., Any]],
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Define functions on the engines, where they use the engines' names as globals.

        :param namespace: the names and their functions.
        :returns: a list with None for each target.
        :raises TypeError: if an object is not a function.
        """
        request = requests.push_function(namespace, self._snapshot(block))
        return self._run(request, targets, block)

    def pull_function(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Fetch functions from the engines; here they use the names of this session as globals.

        :param keys: a name or a list of names.
        :returns: as for :meth:`pull`.
        """
        return self._run(requests.pull_function(keys), targets, block)

    def push_serialized(
        self,
        namespace: Mapping[str, Serialized],
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Define names on the engines from objects that are already serialized.

        :param namespace: the names and their :class:`~ipython1.kernel.payload.Serialized` objects.  These may refer to
            the memory of arrays, which is copied as by :meth:`push`: only if the call does not wait.
        :returns: a list with None for each target.
        :raises TypeError: if an object is not serialized.
        """
        request = requests.push_serialized(namespace, self._snapshot(block))
        return self._run(request, targets, block)

    def pull_serialized(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Fetch objects from the engines without unserializing them.

        :param keys: a name or a list of names.
        :returns: as for :meth:`pull`, with :class:`~ipython1.kernel.payload.Serialized` objects.
        """
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
        """Partition a sequence and push one part to each engine.

        :param key: the name of the part on each engine.
        :param seq: a sequence, an array of numpy or a table of pandas (which are cut along axis 0), or another
            iterable, of which the parts are lists.
        :param dist: the distribution: ``'b'`` for contiguous blocks (default), ``'r'`` for round-robin, or the name
            of a registered one.
        :param flatten: push the element itself where a part has only one; default: False.
        :returns: a list with None for each target.
        :raises ClientError: if ``dist`` is unknown.
        :raises TypeError: if ``seq`` is not iterable, or a mapping.
        """
        request = requests.scatter(key, seq, dist, flatten, self._snapshot(block))
        return self._run(request, targets, block)

    def gather(
        self, key: str, dist: str = "b", targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Pull the parts of a sequence and join them.

        :param key: the name of the part on each engine.
        :param dist: the distribution, as for :meth:`scatter`.
        :returns: the sequence, of the kind that was scattered; arrays and tables are joined along axis 0.  Parts of
            different kinds, and single objects, become a list.
        :raises ClientError: if ``dist`` is unknown.
        :raises PartsMissing: if ``targets`` is ``'all'`` and an engine is gone, or was started again, that had a part
            of this sequence, or of one that it was computed from.
        """
        return self._run(requests.gather(key, dist, self._names_all(targets)), targets, block)

    # -- modules and files

    def push_module(self, module: Any, targets: Targets = None, block: bool | None = None) -> Any:
        """Send the source of a module or package to the engines.

        :param module: a module, its dotted name, or the path of its file or directory.
        :returns: for each target whether the module was installed; False where the engine already had the same
            source.
        :raises TypeError: if the module contains compiled code.
        :raises ValueError: if it has no source, or is part of Python or of this package.
        :raises ModuleNotFoundError: if it does not exist.
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

        :param files: a path, or a list of paths; directories are copied with their contents.
        :param directory: the destination on the engines; default: the working directory of each engine.
        :returns: for each target, a list of the paths of the copies.
        :raises OSError: if a file cannot be read.
        :raises ValueError: if there are no files, or two of them would have the same path on the engines.
        """
        from ipython1.kernel.calls.modules import push_files

        return self._run(push_files(files, directory), targets, block)

    # -- calling functions

    def apply(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``func(*args, **kwargs)`` on each engine of ``self.targets``, waiting if ``self.block`` is set.

        A function that is defined in your session uses the engine's names as globals.  What it prints is shown to a
        user who waits, and is in ``stdout`` and ``stderr`` of a pending result.

        :param func: the function; any callable that can be pickled.
        :returns: a list of the returned values, one for each target, in the order of the targets.
        :raises TypeError: if ``func`` is not callable.
        """
        if "targets" in kwargs or "block" in kwargs:
            requests.check_options_of_function(func, kwargs)
        request = requests.apply("apply", func, args, kwargs, self._snapshot(None), self._streams())
        return self._run(request, None, None)

    def map(
        self,
        func: Callable[..., Any],
        *sequences: Any,
        targets: Targets = None,
        block: bool | None = None,
        chunks: int = 1,
    ) -> Any:
        """Map a function over sequences, in parallel, with the distribution ``'b'``.

        :param func: the function; it is called with one item of each sequence.
        :param sequences: at least one sequence or iterable; the shortest determines the number of calls.
        :param chunks: the number of pieces in which each engine gets its share, one after the other, at least 1;
            default: 1.  With more, results and output are there earlier; which engine gets an item does not change.
        :returns: a list of the results, in the order of the items.
        :raises CompositeError: if calls failed; its ``results`` contain all results, with exceptions in place of those
            that failed, and its ``items`` say which these are.
        :raises TypeError: if ``func`` is not callable, or no sequence is given.
        """
        return self.raw_map(
            func, sequences, "b", self.targets if targets is None else targets, block, chunks
        )

    def raw_map(
        self,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        dist: str = "b",
        targets: Targets = "all",
        block: bool | None = None,
        chunks: int = 1,
    ) -> Any:
        """Map a function over sequences, with all options.

        :param func: the function; it is called with one item of each sequence.
        :param sequences: a list of sequences.
        :param dist: the distribution, as for :meth:`scatter`.
        :param targets: the engines; default: ``'all'``.
        :param chunks: as for :meth:`map`.
        :returns: a list of the results, in the order of the items.
        :raises ClientError: if ``dist`` is unknown.
        :raises TypeError: if ``func`` is not callable, or ``sequences`` is empty or not a list of sequences.
        """
        snapshot = self._snapshot(block)
        request = requests.raw_map(func, sequences, dist, snapshot, self._streams(), chunks)
        return self._run(request, targets, block)

    def mapper(
        self, dist: str = "b", targets: Targets = "all", block: bool | None = None
    ) -> MultiEngineMapper:
        """Create a mapper, whose ``map`` uses these options.

        :param dist: the distribution, as for :meth:`scatter`.
        :param targets: the engines; default: ``'all'``.
        :param block: whether ``map`` waits; default: ``self.block`` at the time of its call.
        """
        return MultiEngineMapper(self, dist, targets, block)

    def parallel(
        self, dist: str = "b", targets: Targets = None, block: bool | None = None
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """Return a decorator for functions that are called with sequences and applied to their items, in parallel.

        :param dist: the distribution, as for :meth:`scatter`.
        :param targets: the engines; default: the present value of ``self.targets``.
        :param block: whether calls wait; default: ``self.block`` at the time of the call.
        """
        chosen = self.targets if targets is None else targets
        mapper = MultiEngineMapper(self, dist, chosen, block)
        return lambda func: ParallelFunction(func, mapper)

    # -- properties

    def set_properties(
        self, properties: Mapping[str, Any], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Set properties of the engines, which tasks can use to select engines.

        :param properties: names and values; a value can be any object that can be pickled.
        :returns: a list with None for each target.
        """
        return self._run(requests.set_properties(properties), targets, block)

    def get_properties(
        self,
        keys: str | Sequence[str] | None = None,
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Fetch properties of the engines.

        :param keys: a name or a list of names; default: all properties.
        :returns: a dict for each target.
        """
        return self._run(requests.get_properties(keys), targets, block)

    def has_properties(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Check which properties the engines have.

        :param keys: a name or a list of names.
        :returns: a list of bools for each target, in the order of ``keys``.
        """
        return self._run(requests.has_properties(keys), targets, block)

    def del_properties(
        self, keys: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Delete properties of the engines.

        :param keys: a name or a list of names.
        :returns: a list with None for each target.
        """
        return self._run(requests.del_properties(keys), targets, block)

    def clear_properties(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Delete all properties of the engines.

        :returns: a list with None for each target.
        """
        return self._run(requests.clear_properties(), targets, block)
