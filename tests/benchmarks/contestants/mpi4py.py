"""mpi4py: rank 0 sends to the others, which wait for it; tasks by its executor."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from tests.benchmarks import meters, work
from tests.benchmarks.workload import Contestant, Plan

STOP, CALL, KEEP, GIVE, EXECUTOR = range(5)


class MPI4Py(Contestant):
    name = "mpi4py"
    packages = ("mpi4py", "mpich", "numpy", "pandas")
    note = "ranks of one MPI program; waiting ranks poll, which costs processor time; start includes mpiexec and Python"
    task_count = 2000
    launched = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._executing = contextlib.ExitStack()
        self._pool: Any = None

    def version(self) -> str:
        from importlib.metadata import version

        return f"{version('mpi4py')} with MPICH {version('mpich')}"

    def start(self, engines: int) -> None:
        """``mpiexec -n 5``, until each rank has answered"""
        from mpi4py import MPI

        self.comm = MPI.COMM_WORLD
        self.ranks = range(1, self.comm.size)
        if self.comm.rank:
            serve(self.comm)
            raise SystemExit
        self._ask(self.ranks, CALL)

    def stop(self) -> None:
        self._ranks_listen()
        for rank in self.ranks:
            self.comm.send((STOP, None), rank)

    def roles(self) -> dict[str, list[int]]:
        """The ranks are siblings, below mpiexec."""
        others = [pid for pid in meters.marked(self.plan.mark) if "mpi" in meters.command_line(pid)]
        return {"client": [os.getpid()], "other ranks": others}

    def _ranks_listen(self) -> None:
        """Have the other ranks leave the executor."""
        self._pool = None
        self._executing.close()

    def _executor(self) -> Any:
        """Have the other ranks serve the executor."""
        if self._pool is None:
            from mpi4py.futures import MPICommExecutor

            for rank in self.ranks:
                self.comm.send((EXECUTOR, None), rank)
            self._pool = self._executing.enter_context(MPICommExecutor(self.comm, 0))
        return self._pool

    def _ask(self, ranks: Any, what: int) -> None:
        self._ranks_listen()
        for rank in ranks:
            self.comm.send((what, None), rank)
        for rank in ranks:
            self.comm.recv(source=rank)

    def _give_to(self, rank: int, value: Any) -> list[Any]:
        """Begin to send; arrays without pickling."""
        import numpy

        if isinstance(value, numpy.ndarray):
            self.comm.send((KEEP, value.shape), rank)
            return [self.comm.Isend(value, rank)]
        self.comm.send((KEEP, None), rank)
        return [self.comm.isend(value, rank)]

    def _give(self, values: dict[int, Any]) -> None:
        self._ranks_listen()
        sent = [each for rank, value in values.items() for each in self._give_to(rank, value)]
        for each in sent:
            each.wait()
        for rank in values:
            self.comm.recv(source=rank)

    def _take(self, rank: int, into: Any = None) -> Any:
        import numpy

        shape = self.comm.recv(source=rank)
        if shape is None:
            return self.comm.recv(source=rank)
        array = numpy.empty(shape) if into is None else into
        self.comm.Recv(array, source=rank)
        return array

    def call_one(self) -> None:
        """``send``, ``recv``"""
        self._ask([1], CALL)

    def call_all(self) -> None:
        """``send`` to each, ``recv`` of each"""
        self._ask(self.ranks, CALL)

    def no_ops(self, count: int) -> None:
        """``MPICommExecutor.submit`` in a loop, each ``result``"""
        pool = self._executor()
        for each in [pool.submit(work.nothing) for _ in range(count)]:
            each.result()

    def sleeps(self, length: float, count: int) -> None:
        """``MPICommExecutor.submit`` in a loop, each ``result``"""
        pool = self._executor()
        for each in [pool.submit(work.sleep_some, length) for _ in range(count)]:
            each.result()

    def task_one(self) -> None:
        """``MPICommExecutor.submit(...).result()``"""
        self._executor().submit(work.nothing).result()

    def push_one(self, value: Any) -> None:
        """``Isend``, ``Recv`` (other objects: ``isend``, ``recv``)"""
        self._give({1: value})

    def pull_one(self) -> Any:
        """``Send``, ``Recv`` (other objects: ``send``, ``recv``)"""
        self._ranks_listen()
        self.comm.send((GIVE, None), 1)
        return self._take(1)

    def push_all(self, value: Any) -> None:
        """``Isend`` to each, ``Recv``"""
        self._give(dict.fromkeys(self.ranks, value))

    def scatter(self, array: Any) -> None:
        """``Isend`` of each part, ``Recv``"""
        import numpy

        parts = numpy.array_split(array, len(self.ranks))
        self.length = len(array)
        self._give(dict(zip(self.ranks, parts, strict=True)))

    def gather(self) -> Any:
        """``Recv`` of each part into its place"""
        import numpy

        self._ranks_listen()
        array = numpy.empty(self.length)
        for rank in self.ranks:
            self.comm.send((GIVE, None), rank)
        for rank, part in zip(self.ranks, numpy.array_split(array, len(self.ranks)), strict=True):
            self._take(rank, part)
        return array


def serve(comm: Any) -> None:
    """What the other ranks do."""
    import numpy

    value: Any = None
    while True:
        what, shape = comm.recv(source=0)
        if what == STOP:
            return
        if what == CALL:
            comm.send(None, 0)
        elif what == KEEP and shape is not None:
            value = numpy.empty(shape)
            comm.Recv(value, source=0)
            comm.send(None, 0)
        elif what == KEEP:
            value = comm.recv(source=0)
            comm.send(None, 0)
        elif what == GIVE and isinstance(value, numpy.ndarray):
            comm.send(value.shape, 0)
            comm.Send(value, 0)
        elif what == GIVE:
            comm.send(None, 0)
            comm.send(value, 0)
        else:
            from mpi4py.futures import MPICommExecutor

            with MPICommExecutor(comm, 0):
                pass


CONTESTANT = MPI4Py
