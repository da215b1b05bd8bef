"""The commands for PBS, LSF, HTCondor and Flux, and the reading of their output.

HTCondor's output is recorded from a real one.  That of the others has the form that their manuals and sources give.
"""

from __future__ import annotations

from twisted.trial import unittest

from ipython1.daemon.jobmember import LEAVE
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batch import job_name
from ipython1.kernel.launchers.batchsystem import End, TaskState
from ipython1.kernel.launchers.clusterconfig import BatchOptions
from ipython1.kernel.launchers.flux import Flux
from ipython1.kernel.launchers.htcondor import HtCondor, limit_of
from ipython1.kernel.launchers.lsf import Lsf
from ipython1.kernel.launchers.pbs import Pbs, Torque

ALL = BatchOptions(
    queue="main", account="physics", time="1:00:00", options=("--mem=4G", "-l x=1 -b"), notice=60
)
NONE = BatchOptions()

RUNS = TaskState(False)
ENDED = TaskState(False, "ended", end=End.ITSELF)
OVER_TIME = TaskState(False, "reached its time limit", end=End.SYSTEM)

PBS_QSTAT = """\
Job Id: 123[].head
    Job_Name = ip-engines-aaaaaa
    Job_Owner = ada@head
    job_state = B
    queue = workq
    array_indices_submitted = 0-6
    comment = Job Array Began at Mon Nov 30 at 12:00

Job Id: 123[0].head
    Job_Name = ip-engines-aaaaaa
    resources_used.walltime = 00:00:07
    job_state = R
    Output_Path = head:/home/ada/.ipython/log/ipengine-pbs-aaaaaa-^array_inde
\tx^.out
    comment = Job run at Mon Nov 30 at 12:00 on (node1:ncpus=1)
    Variable_List = PBS_O_SYSTEM=Linux,PBS_O_HOME=/home/ada,
\tPBS_O_WORKDIR=/home/ada,EQUATION=a = b

Job Id: 123[1].head
    job_state = Q
    comment = Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0 T:
\t 4)

Job Id: 123[2].head
    job_state = X
    Exit_status = 0

Job Id: 123[3].head
    job_state = X
    Exit_status = -29

Job Id: 123[4].head
    job_state = H
    comment = job held, too many failed attempts to run

Job Id: 123[5].head
    job_state = E
    Exit_status = 0

Job Id: 123[6].head
    job_state = S
"""

PBS_QSTAT_ONE = """\
Job Id: 124.head
    Job_Name = ip-engines-aaaaaa
    job_state = H
    Hold_Types = u
"""


class PbsTests(unittest.SynchronousTestCase):
    system = Pbs()

    def test_submission(self) -> None:
        self.assertEqual(
            " ".join(self.system.submit("ip-a", 4, "/l/o-^array_index^.out", NONE)),
            "qsub -N ip-a -J 0-3 -o /l/o-^array_index^.out -j oe -S /bin/sh -V",
        )
        words = " ".join(self.system.submit("ip-a", 2, "/l/o", ALL))
        self.assertIn(" -q main -A physics -l walltime=1:00:00 --mem=4G -l x=1 -b", words)

    def test_one_engine_is_a_plain_job_whose_output_is_found(self) -> None:
        words = " ".join(self.system.submit("ip-a", 1, self.system.output_pattern("/l", "o"), NONE))
        self.assertNotIn("-J", words)
        self.assertIn(f" -o /l/{self.system.output_name('o', '124.head', 0)} ", words)

    def test_job_id(self) -> None:
        self.assertEqual(self.system.job_id("123[].head.example.org\n"), "123[].head.example.org")
        self.assertEqual(self.system.job_id("124.head\n"), "124.head")

    def test_states(self) -> None:
        states = self.system.states("123[].head", PBS_QSTAT)
        self.assertEqual(
            states,
            {
                0: RUNS,
                1: TaskState(
                    True, "Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0 T: 4)"
                ),
                2: ENDED,
                3: OVER_TIME,
                4: TaskState(True, "job held, too many failed attempts to run", True),
                5: RUNS,
                6: TaskState(True, "suspended"),
            },
        )
        self.assertIn("too many failed", self.system.explanation(PBS_QSTAT, 4))
        self.assertEqual(
            self.system.states("124.head", PBS_QSTAT_ONE), {0: TaskState(True, "held")}
        )

    def test_jobs_that_are_gone(self) -> None:
        self.assertTrue(self.system.gone("qstat: Unknown Job Id 124.head\n"))
        self.assertTrue(self.system.gone("qstat: 124.head Job has finished, use -x or -H\n"))
        self.assertFalse(self.system.gone("qstat: cannot connect to server head (errno=111)\n"))

    def test_cancelling(self) -> None:
        self.assertEqual(self.system.cancel("123[].head"), ("qdel", "123[].head"))
        self.assertEqual(self.system.cancel_member("123[].head", 2), ("qdel", "123[2].head"))
        self.assertEqual(self.system.cancel_member("124.head", 0), ("qdel", "124.head"))
        self.assertEqual(self.system.cancel_name("ip-a")[2], "qselect -N ip-a | xargs -r qdel")
        self.assertEqual(
            self.system.signal("123[].head", 2, 10), ("qsig", "-s", "10", "123[2].head")
        )

    def test_the_output_tells_of_the_time_limit(self) -> None:
        line = "=>> PBS: job killed: walltime 12 exceeded limit 10"
        self.assertEqual(self.system.told_end(["x", line]), "reached its time limit")


class TorqueTests(unittest.SynchronousTestCase):
    system = Torque()

    def test_submission(self) -> None:
        output = self.system.output_pattern("/l", "o")
        self.assertEqual(
            " ".join(self.system.submit("ip-a", 1, output, NONE)),
            "qsub -N ip-a -t 0-0 -o /l/o.out -j oe -S /bin/sh -V",
        )
        self.assertEqual(self.system.output_name("o", "123[].head", 2), "o.out-2")

    def test_names_have_up_to_15_characters(self) -> None:
        for cluster in ("", "x", "a-long-name-of-a-cluster"):
            name = job_name(cluster, self.system.name_limit)
            self.assertLessEqual(len(name), 15)
            self.assertRegex(name, r"^ip-.+-[0-9a-f]{6}$")

    def test_completed_jobs_stay_listed(self) -> None:
        output = "Job Id: 12[0].head\n    job_state = C\n    exit_status = 0\n\n"
        self.assertEqual(self.system.states("12[].head", output), {0: ENDED})


class LsfTests(unittest.SynchronousTestCase):
    system = Lsf()

    def test_submission(self) -> None:
        self.assertEqual(
            self.system.submit("ip-a", 4, "/l/o-%J-%I.out", NONE),
            ("bsub", "-J", "ip-a[1-4]", "-o", "/l/o-%J-%I.out"),
        )
        words = " ".join(self.system.submit("ip-a", 4, "/l/o", ALL))
        self.assertIn(" -q main -P physics -W 1:00:00 -wa URG -wt 1 --mem=4G -l x=1 -b", words)

    def test_job_id(self) -> None:
        self.assertEqual(
            self.system.job_id("Job <771> is submitted to default queue <normal>.\n"), "771"
        )

    def test_states(self) -> None:
        output = (
            "1|RUN|-|-\n"
            "2|PEND|-|Job slot limit reached; \n"
            "3|EXIT|-|-\n"
            "4|EXIT|TERM_RUNLIMIT: job killed after reaching LSF run time limit|-\n"
            "5|EXIT|TERM_OWNER: job killed by owner|-\n"
            "6|EXIT|TERM_MEMLIMIT: job killed after reaching LSF memory usage limit|-\n"
            "7|DONE|-|-\n"
            "8|PSUSP|-|-\n"
            "9|USUSP|-|-\n"
            "10|UNKWN|-|-\n"
            "11|ZOMBI|-|-\n"
            "12|PEND|-|-\n"
        )
        memory = "failed (job killed after reaching LSF memory usage limit)"
        self.assertEqual(
            self.system.states("771", output),
            {
                1: RUNS,
                2: TaskState(True, "Job slot limit reached"),
                3: TaskState(False, "failed", end=End.ITSELF),
                4: OVER_TIME,
                5: TaskState(False, "was killed with bkill", end=End.SOMEBODY),
                6: TaskState(False, memory, end=End.ITSELF),
                7: ENDED,
                8: TaskState(True, "suspended while it was pending"),
                9: RUNS,
                10: RUNS,
                11: TaskState(False, "lost its host", end=End.SYSTEM),
                12: TaskState(True),
            },
        )

    def test_jobs_that_are_gone(self) -> None:
        self.assertTrue(self.system.gone("Job <771> is not found\n"))
        self.assertFalse(self.system.gone("LSF is down. Please wait ...\n"))

    def test_cancelling(self) -> None:
        self.assertEqual(self.system.cancel_member("771", 2), ("bkill", "771[2]"))
        self.assertEqual(self.system.cancel_name("ip-a"), ("bkill", "-J", "ip-a", "0"))
        self.assertEqual(self.system.signal("771", 2, 10), ("bkill", "-s", "10", "771[2]"))


CONDOR_Q = """\
[
{
  "JobStatus": 1,
  "LastRejMatchReason": "no match found ",
  "ProcId": 0
}
,
{
  "JobStatus": 1,
  "ProcId": 1
}
,
{
  "JobStatus": 2,
  "LastRejMatchReason": "no match found ",
  "ProcId": 2
}
,
{
  "HoldReason": "The job exceeded allowed job duration of 00:04",
  "HoldReasonCode": 46,
  "JobStatus": 5,
  "ProcId": 3
}
,
{
  "HoldReason": "Error from slot1_3@vm: Failed to open '/x' as standard output: No such file or directory (errno 2)",
  "HoldReasonCode": 7,
  "JobStatus": 5,
  "ProcId": 4
}
,
{
  "HoldReason": "via condor_hold (by user ada)",
  "HoldReasonCode": 1,
  "JobStatus": 5,
  "ProcId": 5
}
,
{
  "JobStatus": 3,
  "ProcId": 6
}
,
{
  "JobStatus": 4,
  "ProcId": 7
}
,
{
  "JobStatus": 7,
  "ProcId": 8
}
]
"""


class HtCondorTests(unittest.SynchronousTestCase):
    system = HtCondor()

    def submitted(self, options: BatchOptions, path: str = "/l/x.sh") -> list[str]:
        command, text = self.system.submission("ip-a", 3, "/l/o", options, "#!/bin/sh\n", path)
        self.assertEqual(command, ("condor_submit", "-terse"))
        return text.splitlines()

    def test_submission(self) -> None:
        lines = self.submitted(NONE)
        self.assertIn("arguments = \"'/l/x.sh' $(Process)\"", lines)
        self.assertIn('+JobBatchName = "ip-a"', lines)
        self.assertEqual(lines[-1], "queue 3")
        self.assertFalse([line for line in lines if "duration" in line or "group" in line])

    def test_options(self) -> None:
        options = BatchOptions(
            account="physics",
            time="0:10:00",
            notice=60,
            resubmit=False,
            options=("universe = local", "+Project = 1"),
        )
        self.system.check(options)
        lines = self.submitted(options)
        self.assertIn("accounting_group = physics", lines)
        self.assertIn("allowed_job_duration = 540", lines)
        self.assertIn("job_max_vacate_time = 60", lines)
        self.assertIn("periodic_remove = JobStatus == 1 && NumShadowStarts > 0", lines)
        # The last line of a name counts.
        self.assertEqual(lines[-3:], ["universe = local", "+Project = 1", "queue 3"])

    def test_who_removes_a_job_does_not_get_it_back(self) -> None:
        self.assertEqual(self.system.told_end([LEAVE]), "")

    def test_what_it_does_not_have_is_refused(self) -> None:
        for options, message in (
            (BatchOptions(queue="main"), "HTCondor has no queues"),
            (BatchOptions(options=("--mem=4G",)), "'--mem=4G' is not an option for HTCondor"),
            (BatchOptions(time="tomorrow"), "'tomorrow' is not a time limit for HTCondor"),
        ):
            with self.assertRaisesRegex(ClusterError, message):
                self.system.check(options)

    def test_times(self) -> None:
        times = {"90": 90, "0:01:30": 90, "2:00:00": 7200, "1-00:00:01": 86401}
        for text, seconds in times.items():
            self.assertEqual(limit_of(text), seconds)

    def test_paths_are_quoted(self) -> None:
        arguments = next(
            line for line in self.submitted(NONE, "/l/a 'b' \"$(c)") if line.startswith("arg")
        )
        self.assertEqual(arguments, "arguments = \"'/l/a ''b'' \"\"$(DOLLAR)(c)' $(Process)\"")

    def test_job_id(self) -> None:
        self.assertEqual(self.system.job_id("12.0 - 12.2\n"), "12")
        with self.assertRaisesRegex(ClusterError, "condor_submit did not print a job id"):
            self.system.job_id("ERROR: Can't find address of local schedd\n")

    def test_states(self) -> None:
        self.assertEqual(
            self.system.states("12", CONDOR_Q),
            {
                0: TaskState(True, "no match found"),
                1: TaskState(True),
                2: RUNS,
                3: TaskState(False, "reached its time limit", True, End.SYSTEM),
                4: TaskState(False, error=True),
                5: TaskState(True, "held: via condor_hold (by user ada)"),
                6: TaskState(False, "was removed", end=End.SOMEBODY),
                7: ENDED,
                8: RUNS,
            },
        )
        self.assertIn("Failed to open '/x'", self.system.explanation(CONDOR_Q, 4))
        self.assertEqual(self.system.states("12", ""), {})

    def test_cancelling(self) -> None:
        self.assertEqual(self.system.cancel_member("12", 2), ("condor_rm", "12.2"))
        self.assertEqual(
            self.system.cancel_name("ip-a"), ("condor_rm", "-constraint", 'JobBatchName == "ip-a"')
        )
        self.assertIsNone(self.system.signal("12", 2, 10))


class FluxTests(unittest.SynchronousTestCase):
    system = Flux()

    def test_submission(self) -> None:
        command, text = self.system.submission(
            "ip-a", 3, self.system.output_pattern("/l", "o"), NONE, "#!/bin/sh\n", "/l/x.sh"
        )
        self.assertEqual(
            " ".join(command),
            "flux submit --cc=0-2 --job-name=ip-a-{cc} --output=/l/o-{cc}.out /bin/sh /l/x.sh",
        )
        self.assertEqual(text, "")
        words = " ".join(self.system.submit("ip-a", 3, "/l/o", ALL))
        self.assertIn(
            " --queue=main --bank=physics --time-limit=1:00:00 --signal=URG@60s --mem=4G -l x=1 -b",
            words,
        )

    def test_paths_with_braces_are_refused(self) -> None:
        with self.assertRaisesRegex(ClusterError, "replace the braces in the path /l/{x}.sh"):
            self.system.submission("ip-a", 3, "/l/o-{cc}.out", NONE, "", "/l/{x}.sh")

    def test_states(self) -> None:
        output = (
            "ip-a.b-0|RUNNING|RUN|16|||\n"
            "ip-a.b-1|PENDING|SCHED|16|||Waiting for 1 node\n"
            "ip-a.b-2|PENDING|SCHED|0|||\n"
            "ip-a.b-3|PENDING|DEPEND|16|begin-time:1796082045.0||\n"
            "ip-a.b-4|COMPLETED|INACTIVE|16|||\n"
            "ip-a.b-5|FAILED|INACTIVE|16||exec|\n"
            "ip-a.b-6|CANCELED|INACTIVE|16||cancel|\n"
            "ip-a.b-7|TIMEOUT|INACTIVE|16||timeout|\n"
            "ip-a.b-8|FAILED|INACTIVE|16||node-failure|\n"
            "ip-axb-9|RUNNING|RUN|16|||\n"
        )
        self.assertEqual(
            self.system.states("ip-a.b", output),
            {
                0: RUNS,
                1: TaskState(True, "Waiting for 1 node"),
                2: TaskState(True, "held"),
                3: TaskState(True, "depends on begin-time:1796082045.0"),
                4: ENDED,
                5: TaskState(False, "failed", end=End.ITSELF),
                6: TaskState(False, "was cancelled", end=End.SOMEBODY),
                7: OVER_TIME,
                8: TaskState(False, "lost its node", end=End.SYSTEM),
            },
        )
        self.assertTrue(self.system.gone(""))
        self.assertFalse(
            self.system.gone("flux-pgrep: ERROR: [Errno 2] Unable to connect to Flux\n")
        )

    def test_cancelling(self) -> None:
        self.assertEqual(self.system.cancel("ip-a.b")[-1], r"name:^ip\-a\.b-[0-9]+$")
        self.assertEqual(self.system.cancel_member("ip-a.b", 2)[-1], r"name:^ip\-a\.b-2$")
        self.assertIn(
            "flux job kill --signal=10 $(flux pgrep ", self.system.signal("ip-a", 2, 10)[2]
        )
