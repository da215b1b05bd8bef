"""The commands for batch systems, and the parsing of their output, recorded from real systems."""

from __future__ import annotations

from twisted.trial import unittest

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batch import job_name
from ipython1.kernel.launchers.batchsystem import BatchSystem, End, TaskState
from ipython1.kernel.launchers.batchsystems import Sge, Slurm
from ipython1.kernel.launchers.clusterconfig import BatchOptions, ClusterConfig
from ipython1.kernel.launchers.flux import Flux
from ipython1.kernel.launchers.htcondor import HtCondor
from ipython1.kernel.launchers.interfaces import Unit
from ipython1.kernel.launchers.jobscripts import (
    DEFAULT_SCRIPT,
    PLACEHOLDERS,
    member_command,
    render_script,
)
from ipython1.kernel.launchers.lsf import Lsf
from ipython1.kernel.launchers.pbs import Pbs, Torque

ALL = BatchOptions(
    queue="main", account="physics", time="1:00:00", options=("--mem=4G", "-l x=1 -b"), setup=()
)
NONE = BatchOptions()


class SlurmTests(unittest.SynchronousTestCase):
    system = Slurm()

    def test_submission(self) -> None:
        self.assertEqual(
            " ".join(self.system.submit("ip-a", 4, "/l/o-%A-%a.out", NONE)),
            "sbatch --parsable --job-name=ip-a --array=0-3 --output=/l/o-%A-%a.out --signal=B:URG@60",
        )
        self.assertEqual(
            self.system.submit("ip-a", 1, "o", ALL)[4:],
            (
                *("--output=o", "--partition=main", "--account=physics", "--time=1:00:00"),
                *("--signal=B:URG@60", "--mem=4G", "-l", "x=1", "-b"),
            ),
        )

    def test_who_wants_neither_a_notice_nor_engines_again(self) -> None:
        words = self.system.submit("ip-a", 1, "o", BatchOptions(notice=0, resubmit=False))
        self.assertEqual(words[5:], ("--no-requeue",))

    def test_the_largest_array(self) -> None:
        output = "MailProg                = /bin/true\nMaxArraySize            = 1001\n"
        self.assertEqual(self.system.array_limit(output), 1001)
        self.assertEqual(self.system.array_limit("slurm_load_ctl_conf error"), 0)

    def test_job_id(self) -> None:
        self.assertEqual(self.system.job_id("317\n"), "317")
        self.assertEqual(self.system.job_id("317;cluster2\n"), "317")
        self.assertEqual(self.system.job_id("sbatch: note: all is well\n317\n"), "317")
        with self.assertRaisesRegex(ClusterError, "sbatch did not print a job id.* weird"):
            self.system.job_id("weird")

    def test_states(self) -> None:
        output = (
            "0|RUNNING|None\n1|PENDING|Resources\n2|COMPLETING|None\n3|FAILED|NonZeroExitCode\n"
            "4|PENDING|None\n5|TIMEOUT|TimeLimit\n6|CANCELLED|None\n7|PREEMPTED|None\n8|PENDING|BeginTime\n"
        )
        self.assertEqual(
            self.system.states("317", output),
            {
                0: TaskState(False),
                1: TaskState(True, "Resources"),
                2: TaskState(False),
                3: TaskState(False, "failed", end=End.ITSELF),
                4: TaskState(True),
                5: TaskState(False, "reached its time limit", end=End.SYSTEM),
                6: TaskState(False, "was cancelled", end=End.SOMEBODY),
                7: TaskState(False, "was preempted", end=End.SYSTEM),
                8: TaskState(True, "BeginTime"),
            },
        )
        self.assertTrue(self.system.gone("slurm_load_jobs error: Invalid job id specified\n"))
        self.assertFalse(self.system.gone("slurm_load_jobs error: Unable to contact controller\n"))

    def test_cancelling(self) -> None:
        self.assertEqual(self.system.cancel("317"), ("scancel", "317"))
        self.assertEqual(self.system.cancel_member("317", 2), ("scancel", "317_2"))
        self.assertEqual(self.system.cancel_name("ip-a"), ("scancel", "--name=ip-a"))


SGE_QSTAT = """\
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
     12 0.50000 ip-engines ada          r     11/23/2026 03:11:11 all.q@node1                        1 1
     12 0.50000 ip-engines ada          r     11/23/2026 03:11:11 all.q@node2                        1 2
     12 0.00000 ip-engines ada          qw    11/23/2026 03:11:10                                    1 3-5:1,8
     13 0.00000 other      ada          qw    11/23/2026 03:11:10                                    1 6
     14 0.50000 alone      ada          Eqw   11/23/2026 03:11:10                                    1
"""
SGE_QSTAT_J = """\
job-array tasks:            1-2:1
error reason          1:      11/30/2026 23:39:08 [0:24619]: error: can't chdir to /tmp/x: No such file or directory
error reason          2:      11/30/2026 23:39:08 [0:24620]: error: can't chdir to /tmp/x: No such file or directory
scheduling info:            Job is in error state
"""


class NoticeTests(unittest.SynchronousTestCase):
    """Time limits that leave engines no time to work before they are told to leave."""

    def test_they_are_refused(self) -> None:
        for system, time, notice in (
            (Slurm(), "1", 60.0),
            (Slurm(), "1:30", 90.0),
            (Slurm(), "0:10:00", 600.0),
            (Slurm(), "1-0", 86400.0),
            (Lsf(), "1", 1.0),
            (Lsf(), "1:00/host", 3600.0),
            (Flux(), "60", 60.0),
            (Flux(), "1.5m", 90.0),
        ):
            text = rf"a time limit of {time} \(.* s\), engines would leave as soon as they start"
            with self.assertRaisesRegex(ClusterError, text):
                system.check(BatchOptions(time=time, notice=notice))

    def test_longer_ones_and_those_without_a_notice_are_not(self) -> None:
        for system, time, notice in (
            (Slurm(), "2", 60.0),
            (Slurm(), "1:31", 90.0),
            (Slurm(), "2:00:00", 60.0),
            (Slurm(), "1-0:0:1", 86400.0),
            (Slurm(), "UNLIMITED", 60.0),
            (Slurm(), "", 60.0),
            (Slurm(), "1", 0.0),
            (Lsf(), "2", 60.0),
            (Flux(), "1h", 60.0),
            (Sge(), "60", 60.0),  # it is told at half the time
        ):
            system.check(BatchOptions(time=time, notice=notice))


class SgeTests(unittest.SynchronousTestCase):
    system = Sge()

    def test_submission(self) -> None:
        self.assertEqual(
            " ".join(self.system.submit("ip-a", 4, "/l/o", NONE)),
            "qsub -terse -N ip-a -t 1-4 -o /l/o -j y -S /bin/sh -cwd -V",
        )
        words = " ".join(self.system.submit("ip-a", 4, "/l/o", ALL))
        self.assertIn(" -q main -P physics -l h_rt=1:00:00,s_rt=3540 --mem=4G -l x=1 -b", words)

    def test_the_soft_limit(self) -> None:
        for time, words in (
            ("60", "h_rt=60,s_rt=30"),
            ("0:10:00", "h_rt=0:10:00,s_rt=540"),
            ("INFINITY", "h_rt=INFINITY"),
        ):
            self.assertEqual(self.system.submit("a", 1, "o", BatchOptions(time=time))[-1], words)
        words = self.system.submit("a", 1, "o", BatchOptions(time="60", notice=0))[-1]
        self.assertEqual(words, "h_rt=60")

    def test_why_a_member_is_held(self) -> None:
        self.assertEqual(
            self.system.explanation(SGE_QSTAT_J, 2),
            "can't chdir to /tmp/x: No such file or directory",
        )
        self.assertEqual(self.system.explanation(SGE_QSTAT_J, 3), "")

    def test_the_largest_array(self) -> None:
        self.assertEqual(
            self.system.array_limit("max_aj_instances   2000\nmax_aj_tasks   75000\n"), 75000
        )

    def test_job_id(self) -> None:
        self.assertEqual(self.system.job_id("12.1-4:1\n"), "12")
        self.assertEqual(self.system.job_id("12\n"), "12")

    def test_states(self) -> None:
        waiting = TaskState(True, "qw")
        expected = {
            1: TaskState(False),
            2: TaskState(False),
            3: waiting,
            4: waiting,
            5: waiting,
            8: waiting,
        }
        self.assertEqual(self.system.states("12", SGE_QSTAT), expected)
        self.assertEqual(self.system.states("14", SGE_QSTAT), {1: TaskState(True, "Eqw", True)})
        self.assertEqual(self.system.states("1", SGE_QSTAT), {})

    def test_cancelling(self) -> None:
        self.assertEqual(self.system.cancel_member("12", 2), ("qdel", "12.2"))
        self.assertEqual(self.system.cancel_name("ip-a"), ("qdel", "ip-a"))


class ScriptTests(unittest.SynchronousTestCase):
    def test_names_of_jobs_differ_however_long_the_cluster_s_is(self) -> None:
        self.assertRegex(job_name(""), r"^ip-engines-[0-9a-f]{6}$")
        self.assertRegex(job_name("a.b"), r"^ip-a\.b-[0-9a-f]{6}$")
        long = "x" * 64
        self.assertNotEqual(job_name(long), job_name(long))
        self.assertLessEqual(len(job_name(long)), 60)

    values = {name: f"<{name}>" for name in PLACEHOLDERS}

    def test_only_placeholders_are_replaced(self) -> None:
        template = "#!/bin/sh\n#SBATCH --mem={mem}\necho ${HOME} ${n} $(( {n} )) {x}\n{engine}\n"
        self.assertEqual(
            render_script(template, self.values, "x.sh"),
            "#!/bin/sh\n#SBATCH --mem={mem}\necho ${HOME} ${n} $(( <n> )) {x}\n<engine>\n",
        )

    def test_a_script_without_an_engine_is_refused(self) -> None:
        with self.assertRaisesRegex(ClusterError, r"x\.sh does not start an engine.*\{engine\}"):
            render_script("#!/bin/sh\necho\n", self.values, "x.sh")

    def test_a_member_finds_its_engines(self) -> None:
        config = ClusterConfig(ipython_dir="/d")
        one = [Unit(f"e{each}", 1, (each,)) for each in (0, 1, 2, 7)]
        command = member_command(Sge(), config, one)
        self.assertIn('--ids=0-2,7 --first=1 --notice=SIGUSR1 --member="$SGE_TASK_ID" -- ', command)
        several = [Unit("a", 2, (0, 1)), Unit("b", 3, (4, 6, 7))]
        self.assertIn("--groups=0-1/4,6-7 --first=0", member_command(Slurm(), config, several))

    def test_the_built_in_script(self) -> None:
        self.assertEqual(
            render_script(DEFAULT_SCRIPT, self.values, ""), "#!/bin/sh\n<setup>\nexec <engine>\n"
        )

    def test_each_member_has_a_word_for_its_index(self) -> None:
        systems: list[BatchSystem] = [
            *(Slurm(), Sge(), Pbs(), Torque()),
            *(Lsf(), HtCondor(), Flux()),
        ]
        self.assertEqual(
            [system.index for system in systems],
            [
                *("$SLURM_ARRAY_TASK_ID", "$SGE_TASK_ID", "${PBS_ARRAY_INDEX:-0}"),
                *("${PBS_ARRAYID:-0}", "$LSB_JOBINDEX", "$1", "$FLUX_JOB_CC"),
            ],
        )
