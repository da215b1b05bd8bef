"""Tasks that wait for others: when they run, where, and what they are told if they do not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.scheduling.instructions import Locate, Note
from ipython1.kernel.controller.scheduling.queues import PriorityLine
from ipython1.kernel.controller.tests.taskworld import CLIENT, World
from ipython1.kernel.controller.tests.test_task_machine import BOB, FAILED, OK, Desk
from ipython1.kernel.wire.failureline import pack_line
from ipython1.kernel.wire.tasklinks import FAILURE, FOLLOW, SUCCESS, Links

BOTH = SUCCESS | FAILURE


def after(*ids: int, flags: int = SUCCESS) -> list[tuple[Links, bytes]]:
    """What goes with a task that waits for others."""
    return [(Links.pack([(flags, ids)]), b"")]


class GraphDesk(Desk):
    """Its tasks wait for others."""

    def one(self, *others: int, flags: int = SUCCESS, **options: object) -> int:
        companions = after(*others, flags=flags) if others else ()
        [task_id] = self.submit(recovery=companions, **options)
        return task_id

    def running(self) -> list[int]:
        return sorted(task_id for runs in self.sent.values() for task_id, _ in runs)

    def why(self) -> dict[int, str]:
        return dict(self.machine.survey.waiting(""))


class OrderTests(SynchronousTestCase):
    def test_a_diamond(self) -> None:
        desk = GraphDesk(1)
        top = desk.one()
        left, right = desk.one(top), desk.one(top)
        bottom = desk.one(left, right)
        self.assertEqual(desk.running(), [top])
        text = f"it waits for tasks {left} and {right}"
        wanted = {left: f"it waits for task {top}", right: f"it waits for task {top}", bottom: text}
        self.assertEqual(desk.why(), wanted)
        self.assertEqual(desk.machine.counts()["scheduled"], 3)
        desk.end(0)
        self.assertEqual(desk.running(), [left, right])
        desk.end(0, number=2)
        self.assertEqual(desk.running(), [bottom])
        desk.end(0)
        self.assertEqual([each.status for each in desk.done.values()], [OK] * 4)
        self.assertEqual(desk.one(top), bottom + 1)
        self.assertEqual(desk.running(), [bottom + 1], "what is done is not waited for")

    def test_priorities_are_kept(self) -> None:
        desk = GraphDesk(0, PriorityLine)
        first = desk.one(priority=9)
        low, high = desk.one(first, priority=1), desk.one(first, priority=5)
        desk.join(0)
        desk.end(0)
        self.assertEqual([run[0] for run in desk.sent[0]], [high, low])

    def test_retries_come_first(self) -> None:
        desk = GraphDesk(1)
        first = desk.one(retries=1)
        second = desk.one(first)
        desk.end(0, FAILED)
        self.assertEqual(desk.running(), [first])
        desk.end(0)
        self.assertEqual(desk.running(), [second])

    def test_outcomes_outlive_results(self) -> None:
        desk = GraphDesk(1)
        good, bad = desk.one(), desk.one()
        desk.end(0)
        desk.end(0, FAILED)
        desk.machine.clients.clear(desk.machine.clients.account(b"a" * 16).uuid, None)
        well, never, anyway = desk.one(good), desk.one(bad), desk.one(bad, flags=BOTH)
        self.assertEqual(desk.running(), [well, anyway])
        self.assertIn(f"after task {bad}, which failed", desk.error(never)[1])

    def test_another_clients_task_may_still_be_on_its_way(self) -> None:
        desk = GraphDesk(1)
        clients = desk.machine.clients
        clients.joined(BOB)
        clients.begun(BOB)
        lease = clients.lease(BOB)
        waits, given_up = desk.one(lease.start), desk.one(lease.start + 1)
        self.assertEqual(desk.running(), [])
        desk.machine.submit(BOB, [(lease.start, desk.options(), b"p", ())], desk.now)
        desk.settle()
        desk.end(0)
        self.assertEqual(desk.running(), [waits])
        clients.gone(BOB, desk.now)
        desk.settle()
        self.assertIn("no such task", desk.error(given_up)[1])


class FailureTests(SynchronousTestCase):
    def test_all_that_follows_from_a_failure(self) -> None:
        desk = GraphDesk(1)
        chain = [desk.one()]
        for _ in range(5):
            chain.append(desk.one(chain[-1]))
        alarm = desk.one(chain[0], flags=FAILURE)
        anyway = desk.one(chain[-1], flags=BOTH)
        desk.end(0, FAILED, payload=pack_line("ValueError: no\nsuch value") + b"rest")
        self.assertEqual(desk.running(), [alarm, anyway])
        reason = f"after task {chain[0]}, which failed: ValueError: no such value"
        name, text = desk.error(chain[1])
        self.assertEqual(name, "DependencyFailed")
        self.assertEqual(text, f"task {chain[1]} was not run: it was to run {reason}")
        self.assertEqual(
            desk.error(chain[5])[1],
            f"task {chain[5]} was not run: it was to run after task {chain[4]}, which was to run after task "
            f"{chain[3]} (and so on, through 2 more tasks), which was to run {reason}",
        )

    def test_aborts(self) -> None:
        desk = GraphDesk(1)
        first = desk.one()
        second = desk.one(first)
        third, fourth = desk.one(second), desk.one(second, flags=FAILURE)
        desk.machine.abort(second, desk.now)
        desk.settle()
        self.assertIn(f"TaskAborted: task {second} was aborted", desk.error(third)[1])
        self.assertTrue(desk.machine.withdraw(desk.one(first), desk.now))
        desk.end(0)
        self.assertEqual(desk.running(), [fourth])

    def test_what_can_never_be(self) -> None:
        desk = GraphDesk(1)
        unknown, success = desk.one(10**9), desk.one()
        desk.end(0)
        itself, never = desk.one(success + 1), desk.one(success, flags=FAILURE)
        self.assertIn("there is no such task", desk.error(unknown)[1])
        self.assertIn("which is itself", desk.error(itself)[1])
        self.assertIn("it was to run only if that failed", desk.error(never)[1])

    def test_circles(self) -> None:
        desk = GraphDesk(1)
        ids = [next(desk.ids) for _ in range(3)]
        made = desk.options()
        wishes = [after(ids[1]), after(ids[2]), after(ids[0])]
        both = zip(ids, wishes, strict=True)
        desk.machine.submit(b"a" * 16, [(key, made, b"p", each) for key, each in both], desk.now)
        desk.settle()
        self.assertEqual(sorted(desk.done), ids)
        self.assertIn("which waits for it in turn", desk.error(ids[2])[1])

    def test_very_many_in_a_row_and_side_by_side(self) -> None:
        """None of it takes time by the square of the number, or a recursion."""
        number = 60_000
        world = World(2)
        account = world.machine.clients.account(CLIENT)
        account.window_tasks = account.window_size = 10**9
        terms = world.options()
        ids: list[int] = []
        while len(ids) < number:
            lease = world.machine.clients.lease(CLIENT)
            ids += range(lease.start, lease.stop)
        half = number // 2
        layers = [after(*ids[start : start + 1000]) for start in range(0, half, 1000)]
        wishes: list[list[tuple[Links, bytes]]] = [[]] * 1000
        wishes += [layers[index // 1000 - 1] for index in range(1000, half + 1)]
        wishes += [after(ids[index - 1]) for index in range(half + 1, number)]
        rows = zip(ids[:number], wishes, strict=True)
        submissions = [(task_id, terms, b"0", others) for task_id, others in rows]
        world.machine.submit(CLIENT, submissions, world.now)
        world.machine.abort(ids[half + 1000], world.now)
        world._settle()
        world.run_all(ids[:number])
        failed = sum(1 for each in world.finished.values() if each.status)
        self.assertEqual(failed, number - half - 1000)


class PlaceTests(SynchronousTestCase):
    def test_following(self) -> None:
        desk = GraphDesk(2)
        first, second = desk.one(), desk.one()
        place = desk.engine_of(first)
        followers = [desk.one(first, flags=SUCCESS | FOLLOW) for _ in range(3)]
        desk.end(place)
        desk.end(1 - place)
        self.assertEqual([desk.engine_of(each) for each in followers], [place] * 3)
        either = desk.one(first, second, flags=SUCCESS | FOLLOW)
        desk.lose(place)
        for task_id in followers[1:]:
            self.assertIn("on the same engine, and that is gone", desk.error(task_id)[1])
        self.assertEqual(desk.engine_of(either), 1 - place)
        desk.now += 1
        desk.join(place)
        self.assertIn("gone", desk.error(desk.one(first, flags=SUCCESS | FOLLOW))[1])

    def test_the_journal_is_asked_where_an_earlier_controller_had_it_run(self) -> None:
        desk = GraphDesk(2)
        desk.machine.store.succeeded.add_range(*desk._lease())
        done = desk.machine.clients.next_id - 1
        follower = desk.one(done, flags=SUCCESS | FOLLOW)
        self.assertEqual(desk.other, [Locate((done,))])
        self.assertIn("journal", desk.why()[follower])
        desk.machine.predecessors.located({done: 1})
        desk.settle()
        self.assertEqual(desk.engine_of(follower), 1)

    def test_targets(self) -> None:
        desk = GraphDesk(2)
        ones = [desk.one(targets=frozenset({1})) for _ in range(3)]
        self.assertEqual({desk.engine_of(each) for each in ones}, {1})
        nowhere = desk.one(targets=frozenset({5, 7}))
        desk.wait(1.1)
        [note] = [each for each in desk.other if isinstance(each, Note)]
        self.assertIn("engines 5, 7 only, which are not registered", note.text)
        self.assertEqual(desk.machine.status()["unsatisfied"], [nowhere])
        desk.join(7)
        self.assertEqual(desk.engine_of(nowhere), 7)
