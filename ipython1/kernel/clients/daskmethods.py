"""The methods of the blocking MultiEngine client that make engines workers of dask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ipython1.kernel.basics.error import CompositeError, NoEnginesRegistered
from ipython1.kernel.calls import requests
from ipython1.kernel.calls.calls import Request, Targets
from ipython1.kernel.calls.twistedutil import refuse_in_reactor_thread

if TYPE_CHECKING:
    from ipython1.kernel.clients.daskworkers import DaskWorkers


class DaskMethods:
    """A part of the client."""

    _dask: DaskWorkers | None = None

    def get_ids(self) -> list[int]:
        raise NotImplementedError

    def _options(self, targets: Targets, block: bool | None) -> tuple[tuple[int, ...] | None, bool]:
        raise NotImplementedError

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        raise NotImplementedError

    def become_dask(
        self,
        targets: Targets = None,
        *,
        nthreads: int = 1,
        host: str | None = None,
        timeout: float = 60.0,
    ) -> Any:
        """Start a dask worker in the process of each engine that has ``distributed`` installed.

        The scheduler runs in your program, and ends with it, with the client, or with :meth:`stop_dask`; the workers
        end with it.  Engines stay usable for everything else.  All connections are encrypted, and only who has the key,
        which is made for this scheduler, can connect; dask's web pages are not served.

        Called again, it adds workers to the same scheduler.

        :param targets: the engines; default: ``self.targets``.
        :param nthreads: the number of dask's tasks that each worker runs at the same time; default: 1.
        :param host: the address of this host that the engines reach; default: 127.0.0.1 if all engines run on this
            host, otherwise the address on the network that leads to the engines.
        :param timeout: the maximum time until the workers are connected, in seconds; default: 60.
        :returns: a connected ``distributed.Client``, which is also dask's default scheduler from now on.
        :raises NoEnginesRegistered: if no engine is registered.
        :raises ClientError: if ``distributed`` is not installed here or on any of the engines.
        :raises CompositeError: if an engine cannot reach the scheduler.
        :raises TypeError, ValueError: if an argument is invalid.
        """
        from ipython1.kernel.clients.daskworkers import DaskWorkers, check_arguments

        limit = check_arguments(nthreads, host, timeout)
        ids, _ = self._options(targets, True)
        known = self.get_ids() if ids is None else list(ids)
        if not known:
            raise NoEnginesRegistered(
                "no engine is registered with the controller; start some (ipengine, or ipcluster engines -n 4)"
            )
        refuse_in_reactor_thread()
        owner = self._owner()
        if owner._dask is None or not owner._dask.running:
            owner.stop_dask()
            owner._dask = DaskWorkers(owner._call_each, host)
        return owner._dask.start(known, nthreads, limit)

    def _owner(self) -> DaskMethods:
        """Return whose scheduler it is: a view of some engines has that of its client."""
        owner: DaskMethods = vars(self).get("_client", self)
        return owner

    def _call_each(
        self, function: Callable[..., Any], arguments: Mapping[int, Sequence[Any]]
    ) -> dict[int, Any]:
        """Call a function on engines, with arguments for each, by its id; return what it returns, by the ids."""
        calls = {
            each: self._run(requests.apply("become_dask", function, args, {}), [each], False)
            for each, args in arguments.items()
        }
        found: dict[int, Any] = {}
        failed: list[CompositeError] = []
        for each, call in calls.items():
            try:
                [found[each]] = call.result()
            except CompositeError as problem:
                failed.append(problem)
        if failed:
            elist = [entry for problem in failed for entry in problem.elist]
            ids = [each for problem in failed for each in problem.engine_ids]
            raise CompositeError("become_dask", elist, ids)
        return found

    def stop_dask(self) -> None:
        """End the dask scheduler that :meth:`become_dask` has started, its workers, and its client, if there are."""
        owner = self._owner()
        dask, owner._dask = owner._dask, None
        if dask is not None:
            dask.stop()
