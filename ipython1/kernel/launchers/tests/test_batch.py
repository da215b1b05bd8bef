"""A batch launcher against a batch system that answers as a real one has answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.daemon.jobmember import LEAVE
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batch import (
    LONGEST_PAUSE,
    SAY_TROUBLE_AFTER,
    SgeEngines,
    SlurmEngines,
)
from ipython1.kernel.launchers.batchcommands import NoAnswer
from ipython1.kernel.launchers.batchjobs import MOST_QUICK, QUICK
from ipython1.kernel.launchers.clusterconfig import BatchOptions, ClusterConfig
from ipython1.kernel.launchers.interfaces import Context, Unit
from ipython1.testing.folders import temporary_path


class Reports:
    """What a launcher reports."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ended: list[tuple[Any, ...]] = []
        self.queued: list[tuple[str, str | None]] = []
        self.back: list[str] = []
        self.end_commands: dict[str, Sequence[Sequence[str]]] = {}

    def say(self, text: str) -> None:
        self.said.append(text)

    def unit_ended(
        self, key: str, reason: str, lines: Sequence[str], asked: bool, by_system: bool = False
    ) -> None:
        self.ended.append((key, reason, asked, by_system))

    def unit_queued(self, key: str, reason: str | None) -> None:
        self.queued.append((key, reason))

    def unit_shrinks(self, rest: Unit, ends: Mapping[int, str]) -> None:
        self.queued.append((rest.key, f"{rest.ids} {dict(ends)}"))

    def unit_comes_back(self, key: str, reason: str) -> None:
        self.back.append(key)

    def set_end_commands(self, key: str, commands: Sequence[Sequence[str]]) -> None:
        self.end_commands[key] = commands

    def jobs_changed(self) -> None: ...

    @property
    def cancelled_at_the_end(self) -> list[str]:
        """The commands that end what is left."""
        return [" ".join(each) for commands in self.end_commands.values() for each in commands]


class BatchCase(unittest.SynchronousTestCase):
    launcher_class: type[Any] = SlurmEngines

    def make(self, **options: Any) -> Any:
        self.clock = Clock()
        self.reports = Reports()
        supervisor = ProcessSupervisor(self.clock)
        self.addCleanup(supervisor.close)
        directory = str(Path(temporary_path(self)).absolute())
        config = ClusterConfig(ipython_dir=directory, batch=BatchOptions(**options))
        nanny: Any = None
        files = config.files()
        files.dirs.prepare()
        self.log = files.dirs.log
        self.commands: list[tuple[str, ...]] = []
        self.answers: dict[str, Callable[[tuple[str, ...]], tuple[int, str]]] = {
            name: lambda command: (0, "") for name in ("scancel", "squeue", "scontrol", "qstat")
        }
        self.jobs = 0
        self.answers["sbatch"] = self.submitted
        self.launcher = self.launcher_class(
            Context(config, files, self.clock, supervisor, nanny, self.reports)
        )
        self.launcher._run = self.run_command
        return self.launcher

    async def run_command(self, command: tuple[str, ...], stdin: bytes = b"") -> tuple[int, str]:
        self.commands.append(command)
        return self.answers[command[0]](command)

    def submitted(self, command: tuple[str, ...]) -> tuple[int, str]:
        self.jobs += 1
        return (0, f"{self.jobs}\n")

    def of(self, name: str) -> list[str]:
        """The commands of a program that were run."""
        return [" ".join(each) for each in self.commands if each[0] == name]

    def start(self, *ids: int) -> Sequence[Unit]:
        units: Sequence[Unit] = self.successResultOf(
            Deferred.fromCoroutine(self.launcher.start(ids))
        )
        return units

    def states(self, **tables: str) -> None:
        """Have ``squeue`` answer for jobs, given as ``job1='0|RUNNING|None'``."""

        def answer(command: tuple[str, ...]) -> tuple[int, str]:
            (job,) = (word for word in command if word.startswith("--jobs="))
            table = tables.get(f"job{job.removeprefix('--jobs=')}")
            if table is None:
                return (1, "slurm_load_jobs error: Invalid job id specified")
            return (0, table)

        self.answers["squeue"] = answer
        self.clock.advance(LONGEST_PAUSE)


class SubmissionTests(BatchCase):
    def test_a_long_array_is_split(self) -> None:
        self.make()
        self.answers["scontrol"] = lambda command: (0, "MaxArraySize            = 3\n")
        units = self.start(0, 1, 2, 3, 4, 5, 6)
        arrays = [word for each in self.of("sbatch") for word in each.split() if "array" in word]
        self.assertEqual(arrays, ["--array=0-2", "--array=0-2", "--array=0-0"])
        self.assertEqual([unit.ids for unit in units], [(each,) for each in range(7)])
        self.assertEqual(self.launcher.jobs(), ["1", "2", "3"])
        self.assertEqual(self.reports.cancelled_at_the_end, ["scancel 1", "scancel 2", "scancel 3"])

    def test_the_second_array_is_refused(self) -> None:
        self.make()
        self.answers["scontrol"] = lambda command: (0, "MaxArraySize            = 1\n")
        self.answers["sbatch"] = lambda command: (
            self.submitted(command) if not self.jobs else (1, "sbatch: error: QOSMaxSubmitJob")
        )
        failed = self.failureResultOf(Deferred.fromCoroutine(self.launcher.start([0, 1])))
        self.assertIn("sbatch rejected the job: sbatch: error: QOSMax", str(failed.value))
        self.assertEqual(self.of("scancel"), ["scancel 1"])
        self.assertEqual((self.reports.cancelled_at_the_end, self.launcher.jobs()), ([], []))

    def test_several_engines_for_each_member(self) -> None:
        self.make(engines_per_job=2)
        units = self.start(0, 1, 2)
        self.assertIn("--array=0-1", self.of("sbatch")[0])
        self.assertEqual([(unit.count, unit.ids) for unit in units], [(2, (0, 1)), (1, (2,))])

    def test_a_submission_without_an_answer_may_have_been_accepted(self) -> None:
        self.make()

        def no_answer(command: tuple[str, ...]) -> tuple[int, str]:
            raise NoAnswer("sbatch did not answer within 60 s")

        self.answers["sbatch"] = no_answer
        failed = self.failureResultOf(Deferred.fromCoroutine(self.launcher.start([0])))
        self.assertEqual(str(failed.value), "sbatch did not answer within 60 s")
        (cancel,) = self.of("scancel")
        self.assertIn("--name=ip-engines-", cancel)
        self.assertEqual(self.reports.cancelled_at_the_end, [cancel])

    def test_what_is_accepted_during_the_end_is_cancelled(self) -> None:
        self.make()
        accepted: Deferred[tuple[int, str]] = Deferred()

        async def slow(command: tuple[str, ...], stdin: bytes = b"") -> tuple[int, str]:
            self.commands.append(command)
            return await accepted if command[0] == "sbatch" else (0, "")

        self.launcher._run = slow
        starting = Deferred.fromCoroutine(self.launcher.start([0]))
        closing = Deferred.fromCoroutine(self.launcher.close(1.0))
        self.assertNoResult(closing)
        accepted.callback((0, "1\n"))
        self.failureResultOf(starting, ClusterError)
        self.successResultOf(closing)
        self.assertIn("scancel --name=ip-engines-", self.of("scancel")[0])


class FollowingTests(BatchCase):
    def test_the_queue_is_told(self) -> None:
        self.make()
        (unit,) = self.start(3)
        self.states(job1="0|PENDING|JobHeldUser")
        self.assertEqual(self.reports.queued, [(unit.key, "JobHeldUser")])
        self.assertEqual(self.reports.said, ["engines waiting in the queue: 1 (JobHeldUser)"])
        self.states(job1="0|RUNNING|None")
        self.assertEqual(self.reports.queued[1:], [(unit.key, None)])

    def test_what_the_system_ends_is_submitted_again(self) -> None:
        self.make()
        units = self.start(0, 1, 2)
        self.states(job1="0|RUNNING|\n1|RUNNING|\n2|RUNNING|")
        self.clock.advance(QUICK)
        self.states(job1="0|TIMEOUT|\n1|RUNNING|\n2|TIMEOUT|")
        self.assertEqual(self.reports.back, [units[0].key, units[2].key])
        self.assertEqual(
            self.reports.said,
            ["slurm engines 0,2 are submitted again as job 2: each reached its time limit"],
        )
        self.assertEqual((len(self.of("sbatch")), self.reports.ended), (2, []))
        self.states(job1="1|RUNNING|", job2="0|RUNNING|\n1|FAILED|")
        self.assertEqual(
            self.reports.ended, [(units[2].key, "failed (job 2, member 1)", False, False)]
        )

    def test_what_left_in_time_is_submitted_again(self) -> None:
        self.make()
        (unit,) = self.start(0)
        self.states(job1="0|RUNNING|")
        (self.log / "ipengine-slurm-1-0.out").write_text(f"{LEAVE}\n")
        self.states(job1="0|COMPLETED|")
        self.assertEqual(self.reports.back, [unit.key])

    def test_who_does_not_want_that(self) -> None:
        self.make(resubmit=False)
        (unit,) = self.start(0)
        self.states(job1="0|PREEMPTED|")
        self.assertEqual(
            self.reports.ended, [(unit.key, "was preempted (job 1, member 0)", False, True)]
        )
        self.assertEqual(self.launcher.jobs(), [])

    def test_nothing_is_submitted_for_ever(self) -> None:
        self.make()
        self.start(0)
        for number in range(1, MOST_QUICK + 1):
            self.states(**{f"job{number}": "0|NODE_FAIL|"})
        self.assertEqual(len(self.of("sbatch")), MOST_QUICK)
        self.assertEqual(len(self.reports.ended), 1)
        self.assertIn(
            "lost its node at once 3 times in a row, and is not submitted again",
            self.reports.said[-1],
        )

    def test_a_refused_submission_is_the_end(self) -> None:
        self.make()
        (unit,) = self.start(0)
        self.answers["sbatch"] = lambda command: (1, "sbatch: error: no")
        self.states(job1="0|TIMEOUT|")
        ((key, reason, asked, by_system),) = self.reports.ended
        self.assertEqual((key, asked, by_system), (unit.key, False, True))
        self.assertIn("cannot be submitted again: sbatch rejected the job", reason)

    def test_one_that_somebody_cancels_stays_away(self) -> None:
        self.make()
        (unit,) = self.start(0)
        self.states(job1="0|CANCELLED|")
        self.assertEqual(
            self.reports.ended, [(unit.key, "was cancelled (job 1, member 0)", False, True)]
        )
        self.assertEqual((len(self.of("sbatch")), self.reports.cancelled_at_the_end), (1, []))

    def test_one_that_is_removed(self) -> None:
        self.make()
        units = self.start(0, 1)
        self.successResultOf(Deferred.fromCoroutine(self.launcher.remove(units[1])))
        self.assertEqual(self.of("scancel"), ["scancel 1_1"])
        self.states(job1="0|RUNNING|\n1|CANCELLED|")
        ((key, _, asked, _),) = self.reports.ended
        self.assertEqual((key, asked), (units[1].key, True))

    def test_engines_that_were_removed_do_not_come_back_with_the_rest(self) -> None:
        self.make(engines_per_job=3)
        (unit,) = self.start(4, 5, 6)
        scripts: list[bytes] = []

        async def run(command: tuple[str, ...], stdin: bytes = b"") -> tuple[int, str]:
            scripts.append(stdin)
            return await self.run_command(command, stdin)

        self.launcher._run = run
        self.launcher.shrink(Unit(unit.key, 2, (4, 6)))
        self.states(job1="0|TIMEOUT|")
        self.assertEqual(len(self.of("sbatch")), 2)
        self.assertIn(b"--groups=4,6 ", b"".join(scripts))

    def test_one_of_several_engines_that_ends(self) -> None:
        self.make(engines_per_job=3)
        (unit,) = self.start(4, 5, 6)
        self.states(job1="0|RUNNING|")
        (self.log / "ipengine-slurm-1-0.out").write_text(
            "ipengine-job: engine 5 was killed by signal 9\n"
        )
        self.states(job1="0|RUNNING|")
        self.states(job1="0|RUNNING|")
        told = (unit.key, "(4, 6) {5: 'was killed by signal 9'}")
        self.assertEqual(self.reports.queued[1:], [told])

    def test_a_queue_that_cannot_be_queried_is_told(self) -> None:
        self.make()
        self.start(0)
        self.answers["squeue"] = lambda command: (1, "Unable to contact slurm controller\n")
        for _ in range(5):
            self.clock.advance(SAY_TROUBLE_AFTER / 2)
        (said,) = self.reports.said
        self.assertIn("squeue: Unable to contact slurm controller; engines go on", said)
        self.assertEqual(self.reports.ended, [])
        self.states(job1="0|RUNNING|")
        self.assertEqual(self.reports.said[1:], ["squeue answers again"])


class HeldTests(BatchCase):
    launcher_class = SgeEngines

    def test_members_in_error_are_cancelled_and_told(self) -> None:
        self.make()
        self.answers["qconf"] = lambda command: (0, "max_aj_tasks   75000\n")
        self.answers["qsub"] = lambda command: (0, "7.1-2:1\n")
        self.answers["qdel"] = lambda command: (0, "")
        line = "  7 0.5 ip x {} 11/30/2026 23:39:07            1 {}\n"
        self.answers["qstat"] = lambda command: (
            (0, "error reason          2:      11/30/2026 23:39:08 [0:1]: error: can't chdir\n")
            if "-j" in command
            else (0, line.format("qw", 1) + line.format("Eqw", 2))
        )
        units = self.start(0, 1)
        self.clock.advance(LONGEST_PAUSE)
        self.assertEqual(self.of("qdel"), ["qdel 7.2"])
        self.assertEqual([each[0] for each in self.reports.ended], [units[1].key])
        self.assertEqual(self.reports.cancelled_at_the_end, ["qdel 7"])
