"""Schedulers: the supplied ones, and a user's own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.basics.taskinterfaces import (
    IScheduledTask,
    IScheduler,
    ITask,
    ITaskController,
    ITaskObserver,
    IWorker,
)
from ipython1.kernel.calls.mapper import IMapper
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.multienginefc import IFCSessions
from ipython1.kernel.controller.scheduling.assigners import BulkAssigner, SchedulerAssigner
from ipython1.kernel.controller.scheduling.invariants import check
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.task import TaskController
from ipython1.kernel.controller.taskfc import FCTaskController, IFCTaskController, TaskSession
from ipython1.kernel.controller.taskschedulers import (
    FIFOScheduler,
    LIFOScheduler,
    PriorityScheduler,
    assigner_for,
)
from ipython1.kernel.controller.tasksettings import make_scheduler
from ipython1.kernel.controller.tests.taskworld import World
from ipython1.kernel.objects.taskobjects import MapTask, StringTask
from ipython1.kernel.tasks.mapper import ITaskMapperFactory, ITaskParallelDecorator, TaskMapper
from ipython1.testing import Pump


@dataclass
class SomeTask:
    taskid: int
    priority: int = 0
    allowed: set[int] = field(default_factory=lambda: {0, 1})

    def check_depend(self, properties: Any) -> bool:
        return properties in self.allowed


@dataclass
class SomeWorker:
    workerid: int
    load: int = 0
    work: float = 0.0

    @property
    def properties(self) -> int:
        return self.workerid


class SuppliedTests(SynchronousTestCase):
    """The supplied schedulers as objects."""

    def order(self, scheduler: Any, tasks: list[SomeTask]) -> list[int]:
        for task in tasks:
            scheduler.add_task(task)
        order = []
        while scheduler.ntasks:
            scheduler.add_worker(SomeWorker(0))
            self.assertTrue(scheduler.ready())
            worker, task = scheduler.schedule()
            self.assertEqual(worker.workerid, 0)
            order.append(task.taskid)
        self.assertFalse(scheduler.ready())
        return order

    def test_orders(self) -> None:
        priorities = [0, 3, -1, 3]
        for kind, expected in (
            (FIFOScheduler, [0, 1, 2, 3]),
            (LIFOScheduler, [3, 2, 1, 0]),
            (PriorityScheduler, [1, 3, 0, 2]),
        ):
            tasks = [SomeTask(n, priority) for n, priority in enumerate(priorities)]
            self.assertEqual(self.order(kind(), tasks), expected, kind)

    def test_dependencies(self) -> None:
        scheduler = FIFOScheduler()
        scheduler.add_task(SomeTask(0, allowed={1}))
        scheduler.add_task(SomeTask(1, allowed=set()))
        scheduler.add_task(SomeTask(2))
        scheduler.add_worker(SomeWorker(0))
        self.assertEqual(scheduler.schedule()[1].taskid, 2)
        self.assertEqual(scheduler.taskids, [0, 1])
        scheduler.add_worker(SomeWorker(0))
        self.assertEqual(scheduler.schedule(), (None, None))
        scheduler.add_worker(SomeWorker(1))
        worker, task = scheduler.schedule()
        self.assertEqual((worker.workerid, task.taskid), (1, 0))
        self.assertEqual((scheduler.nworkers, scheduler.workerids), (1, [0]))

    def test_taking_out(self) -> None:
        for scheduler in (FIFOScheduler(), PriorityScheduler()):
            self.assertRaises(IndexError, scheduler.pop_task)
            self.assertRaises(IndexError, scheduler.pop_worker, 3)
            scheduler.add_task(SomeTask(5))
            scheduler.add_task(SomeTask(6))
            self.assertEqual(scheduler.pop_task(6).taskid, 6)
            self.assertEqual(scheduler.pop_task().taskid, 5)
            self.assertEqual(scheduler.ntasks, 0)

    def test_a_subclass_is_driven_by_its_methods(self) -> None:
        class Mine(FIFOScheduler):
            pass

        self.assertIsInstance(assigner_for(FIFOScheduler(), Prefetch()), BulkAssigner)
        self.assertIsInstance(assigner_for(Mine(), Prefetch()), SchedulerAssigner)


class ShortestFirst(FIFOScheduler):
    """An order that is not supplied: by the number after the decimal point."""

    def tasks(self) -> Any:
        return sorted(super().tasks(), key=lambda task: float(task.payload))


class Broken(FIFOScheduler):
    """Fails now and then, after it has given something out, or gives out what may not run."""

    failures = 0

    def schedule(self) -> tuple[Any, Any]:
        if random.random() < 0.2:
            type(self).failures += 1
            raise RuntimeError("this scheduler is broken")
        return super().schedule()


class Forgetful(FIFOScheduler):
    """Fails when it has taken out a task and a worker."""

    calls = 0

    def schedule(self) -> tuple[Any, Any]:
        chosen = super().schedule()
        self.calls += 1
        if self.calls % 5 == 0:
            raise RuntimeError("it has forgotten what it chose")
        return chosen


class Repeating(FIFOScheduler):
    """Gives out now and then what it gave out before."""

    last: Any = None

    def schedule(self) -> tuple[Any, Any]:
        worker, task = super().schedule()
        before, self.last = self.last, None if self.last is not None else task
        return worker, task if before is None else before


class Refusing(FIFOScheduler):
    """Takes not everything it is told of, and lets go of nothing when asked."""

    calls = 0

    def _sometimes(self) -> None:
        self.calls += 1
        if self.calls % 7 == 0:
            raise RuntimeError("it does not want to")

    def add_task(self, task: Any, **flags: Any) -> None:
        self._sometimes()
        super().add_task(task)

    def add_worker(self, worker: Any, **flags: Any) -> None:
        self._sometimes()
        super().add_worker(worker)

    def pop_task(self, taskid: int | None = None) -> Any:
        self._sometimes()
        return super().pop_task(taskid)


class UsersTests(SynchronousTestCase):
    """A user's scheduler in the machine."""

    def world(self, scheduler: Any, engines: int = 2) -> World:
        return World(engines, assigner=SchedulerAssigner(scheduler, Prefetch()))

    def test_its_order_is_followed(self) -> None:
        world = self.world(ShortestFirst(), 1)
        durations = [0.05, 0.01, 0.03, 0.02, 0.04]
        ids = world.submit([(world.options(), b"%.2f" % d) for d in durations])
        world.run_all(ids)
        ended = sorted(ids, key=lambda task_id: world.finished[task_id].completed)
        self.assertEqual([durations[ids.index(each)] for each in ended], sorted(durations))

    def test_one_that_loses_tasks_and_workers_is_told_again(self) -> None:
        for kind in (Forgetful, Repeating, Refusing):
            world = self.world(kind())
            ids = world.submit([(world.options(), b"0.001")] * 30)
            world.machine.abort(ids[-1], world.now)
            for _ in range(1000):
                if world._events:
                    world.run(lambda world=world: not world._events)  # type: ignore[misc]
                else:
                    world._settle()  # the next event
                check(world.machine)
            self.assertEqual(sorted(world.finished), ids, kind)
            self.assertTrue(self.flushLoggedErrors(RuntimeError, KeyError, IndexError), kind)

    def test_one_that_fails_when_nothing_else_happens_is_asked_again(self) -> None:
        scheduler = Forgetful()
        scheduler.calls = 4
        world = self.world(scheduler)
        world.run_all(world.submit([(world.options(), b"0.001")]))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_one_that_fails_loses_nothing(self) -> None:
        random.seed(4)
        world = self.world(Broken())
        ids = world.submit([(world.options(), b"0.001")] * 200)
        while not set(ids) <= world.finished.keys():
            if not world._events:
                world._settle()  # the next event
            else:
                world.run(lambda: not world._events or set(ids) <= world.finished.keys())
            check(world.machine)
        self.assertGreater(Broken.failures, 0)
        self.flushLoggedErrors(RuntimeError)

    def test_what_the_ini_file_names(self) -> None:
        self.assertIsInstance(make_scheduler("ipython1.kernel.task.LIFOScheduler"), LIFOScheduler)
        name = f"{__name__}.ShortestFirst"
        self.assertIsInstance(make_scheduler(name), ShortestFirst)
        for wrong in ("no.such.Thing", "os.getpid", f"{__name__}.SomeTask"):
            with self.assertRaises(ClientError) as caught:
                make_scheduler(wrong)
            self.assertIn(wrong, str(caught.exception))


class InterfaceTests(SynchronousTestCase):
    """What is declared is provided."""

    def test_interfaces(self) -> None:
        for scheduler in (FIFOScheduler, LIFOScheduler, PriorityScheduler):
            verifyClass(IScheduler, scheduler)
            verifyObject(IScheduler, scheduler())
        for task in (StringTask("a"), MapTask(len)):
            verifyObject(ITask, task)
        controller = ControllerService(Pump())
        tasks = ITaskController(controller)
        verifyObject(ITaskController, tasks)
        verifyClass(ITaskController, TaskController)
        face = IFCTaskController(tasks)
        self.assertIsInstance(face, FCTaskController)
        verifyObject(IFCSessions, face)
        verifyClass(ITaskObserver, TaskSession)
        world = World(1)
        world.submit([(world.options(), b"1")])
        [record] = world.machine.tasks.values()
        verifyObject(IScheduledTask, record, tentative=True)
        verifyObject(IWorker, world.machine.workers[0], tentative=True)
        verifyObject(IMapper, TaskMapper(None))
        from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient
        from ipython1.kernel.clients.taskclient import TaskClient

        for client in (TaskClient, AsyncTaskClient):
            verifyClass(ITaskMapperFactory, client, tentative=True)
            verifyClass(ITaskParallelDecorator, client, tentative=True)
