"""Engines as the members of a job array, in a private Slurm of four nodes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from tests.test_ipcluster import LIMIT, IpclusterCase, until
from tests.testbeds import testbed

COME_AND_GO = """
import time
from ipython1.kernel.client import Cluster

def until(condition):
    end = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < end, cluster.status()
        time.sleep(0.05)

def work(number, gate):
    import os, time
    while not os.path.exists(gate):
        time.sleep(0.05)
    return number

with Cluster.attach() as cluster:
    tc = cluster.task()
    gate = cluster.files.dirs.ipython_dir / "gate"
    futures = [tc.submit(work, each, str(gate)) for each in range(24)]
    until(lambda: len(cluster.ids) == 8)
    gate.touch()
    done = [each.result() for each in futures] == list(range(24))
    until(lambda: not cluster.ids)
    print(8, done, len(cluster.ids))
"""

PASS_A_LIMIT = """
import subprocess, time
from ipython1.kernel import client
from ipython1.kernel.client import Cluster
cluster, tc = Cluster.attach(), client.TaskClient()
def until(condition):
    while not condition():
        time.sleep(0.05)
def work(number, seconds):
    import time
    time.sleep(seconds)
    return number
def run(count, seconds):
    tasks = [tc.run(client.MapTask(work, (number, seconds))) for number in range(count)]
    results = [tc.get_task_result(task, block=True) for task in tasks]
    assert [each.failure for each in results] == [None] * count, results
first, second = cluster.status().jobs
# Limits are whole minutes; the next but one is so soon that the job gets its notice at once.
squeue = ["squeue", "--noheader", f"--jobs={first}_0", "--format=%M"]
minutes, _, _ = subprocess.check_output(squeue, text=True).strip().rpartition(":")
limit = f"TimeLimit={int(minutes) + 2}"
subprocess.run(["scontrol", "update", f"job={first}_0", limit], check=True)
while set(cluster.status().jobs) == {first, second}:
    run(4, 1.0)
assert cluster.wait_for_engines(3, 60) == [0, 2, 3]
# It gets SIGTERM, and two seconds later SIGKILL.
subprocess.run(["scontrol", "requeue", f"{first}_2"], check=True)
run(3, 4.0)
def engine(number):
    return {each.id: each for each in cluster.status().engines}[number]
until(lambda: (engine(2).state, engine(2).reason) == ("queued", "BeginTime"))
(again,) = set(cluster.status().jobs) - {first, second}
subprocess.run(["scancel", f"{again}_0"], check=True)
until(lambda: engine(0).state == "ended")
print(engine(0).reason)
"""

SCRATCH = """
from ipython1.kernel import client
mec = client.MultiEngineClient()
mec.execute("import os; scratch = os.environ['SCRATCH']; there = os.path.isdir(scratch)")
print(sorted(set(mec.pull("scratch"))), mec.pull("there"))
mec.execute("os.rmdir(scratch)", targets=0)
"""

LEAVE_ONE = """
from ipython1.kernel.client import Cluster
cluster = Cluster.attach()
cluster.remove_engines([1, 2, 3])
assert cluster.ids == [0]
try:
    cluster.signal([1], 'USR1')
except Exception as problem:
    assert 'there is no engine 1' in str(problem), problem
else:
    raise AssertionError("it was sent")
mec = cluster.multiengine()
mec.execute("import os; pids = (os.getpid(), os.getppid())")
print(*mec.pull("pids")[0])
"""

PENDING = """
from ipython1.kernel.client import Cluster
import threading
cluster = Cluster(kind="slurm", n=2, batch_options=["--hold"])
def look():
    while True:
        try:
            status = Cluster.attach(cluster.cluster_id).status()
        except Exception:
            continue
        if status.engines and all(engine.reason for engine in status.engines):
            break
    print([(engine.state, engine.reason) for engine in status.engines])
thread = threading.Thread(target=look)
thread.start()
try:
    cluster.start(timeout=15)
except TimeoutError as problem:
    print(problem)
thread.join()
"""


class SlurmTests(IpclusterCase):
    """Each node has two places."""

    def setUp(self) -> None:
        slurm = testbed("slurm")
        super().setUp()
        self.environ.update(slurm.environ)

    def squeue(self) -> list[str]:
        """State and index of each member of a job array."""
        done = subprocess.run(
            ["squeue", "--noheader", "--array", "--format=%T %K"],
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
        )
        return sorted(line.strip() for line in done.stdout.splitlines() if "COMPLET" not in line)

    def nothing_is_left(self) -> None:
        until(lambda: not self.squeue())
        super().nothing_is_left()

    def test_a_cluster(self) -> None:
        """Engines run on the nodes under their members' ids; add one, remove one, and end with Ctrl-C.

        Neither a time limit nor a member that Slurm requeues costs a task, which may not be retried.
        """
        setup = "export FROM_SETUP=yes"
        process = self.start(
            *("slurm", "-n", "3", "--setup", setup),
            *("--queue=main", "--time=10", "--notice=110"),
        )
        printed = self.run_python(
            "from ipython1.kernel import client\n"
            "mec = client.MultiEngineClient()\n"
            'mec.execute(\'import os; e = os.environ; node = e["SLURMD_NODENAME"]; s = e["FROM_SETUP"]\')\n'
            "print(mec.get_ids(), len(set(mec.pull('node'))) > 1, mec.pull('s', targets=0))\n"
        )
        self.assertEqual(printed, "[0, 1, 2] True ['yes']\n")
        status = self.status()
        self.assertEqual((status.kind, len(status.jobs)), ("slurm", 1))
        self.assertEqual(self.run_ipcluster("engines", "-n", "1").stdout, "added: engine 3\n")
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "assert 'registered as engine 3' in cluster.logs(3), cluster.logs(3)\n"
            "cluster.remove_engines([1])\n"
            "assert cluster.ids == [0, 2, 3]\n"
        )
        until(lambda: len(self.squeue()) == 3)
        self.assertRegex(
            self.run_python(PASS_A_LIMIT, 4 * LIMIT), r"^was cancelled \(job \d+, member 0\)\n$"
        )
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        assert process.stdout is not None
        said = process.stdout.read()
        self.assertRegex(
            said, r"slurm engine 0 is submitted again as job \d+: it left before the end"
        )
        self.assertIn("slurm engine 2 was put back into the queue by slurm", said)
        self.nothing_is_left()

    def test_several_engines_for_each_member_and_ipcluster_stop(self) -> None:
        """It cancels what a killed host left: as after a power cut, neither ipcluster nor its nanny could."""
        self.start("slurm", "-n", "4", "--engines-per-job=2")
        self.assertEqual(self.squeue(), ["RUNNING 0", "RUNNING 1"])
        engines = set(map(int, self.run_python(LEAVE_ONE).split()))
        until(lambda: self.squeue() == ["RUNNING 0"])
        others = sorted(set(self.processes()) - engines)
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        for pid in others:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(self.squeue(), ["RUNNING 0"])
        self.assertRegex(self.run_ipcluster("stop").stdout, r"tidied up \(jobs \d+ cancelled\)")
        self.nothing_is_left()

    def test_the_queue_is_told_to_a_program(self) -> None:
        """It is shown and asked for while the jobs are held, and they are cancelled when the time is over."""
        done = self.run_to_end([self.python, "-c", PENDING])
        self.assertIn("ipcluster: engines waiting in the queue: 2 (JobHeldUser)\n", done.stderr)
        self.assertEqual(
            done.stdout,
            "[('queued', 'JobHeldUser'), ('queued', 'JobHeldUser')]\n"
            "no engine was usable after 15 s, so the cluster was stopped; "
            "engines waiting in the queue: 2 (JobHeldUser)\n",
        )
        self.nothing_is_left()

    def test_a_partial_start_by_a_users_script_and_the_end_by_kill_9(self) -> None:
        """Ten do not fit on eight places: the cluster is usable with eight, and the others are reported."""
        script = Path(__file__).resolve().parents[1] / "docs" / "examples" / "job.sh"
        setup = f"USER={self.directory.name}"  # part of the example's scratch directory
        process = self.start(
            *("slurm", "-n", "10", "--start-timeout=4"),
            *(f"--batch-file={script}", f"--setup={setup}"),
        )
        text = "".join(self.printed)
        self.assertRegex(text, r"ipcluster: engines waiting in the queue: 2 \(Resources\)")
        self.assertIn("the cluster is up: 8 engines of 10", text)
        scratch = f"'/tmp/{self.directory.name}-ip-engines-\\w+'"
        self.assertRegex(self.run_python(SCRATCH), rf"^\[{scratch}\] \[True(, True){{7}}\]\n$")
        process.kill()
        process.wait()
        self.nothing_is_left()

    def test_engines_come_and_go_with_the_tasks(self) -> None:
        """From none to eight, and back to none; two that do not fit are cancelled when no task needs them any more."""
        process = self.start("slurm", "--adapt=0:10", "--adapt-idle=2", "--queue=main", "--time=5")
        self.assertEqual(self.run_python(COME_AND_GO), "8 True 0\n")
        until(lambda: not self.squeue())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        out = process.stdout.read()  # type: ignore[union-attr]
        started = map(int, re.findall(r"ipcluster: starting (\d+) engines?: \d+ tasks? wait", out))
        self.assertEqual(sum(started), 10, out)
        self.assertRegex(out, "ipcluster: cancelling engines 8-9: no task waits for them\n")
        self.assertRegex(out, r"ipcluster: ending engines? [\d,-]+: without work for 2 s\n")
        self.nothing_is_left()

    def test_errors(self) -> None:
        error = self.run_ipcluster("slurm", "-n", "1", "--queue=nowhere", status=1).stderr
        self.assertRegex(error, "^ipcluster: sbatch rejected the job: .*invalid partition")
        self.assertEqual(error.count("\n"), 1)
        error = self.run_ipcluster(
            "slurm", "-n", "2", "--setup", "echo no luck here; exit 3", status=1
        )
        self.assertIn("no luck here", error.stderr)
        self.assertIn("no engine could be started", error.stderr)
        script = self.directory / "job.sh"
        script.write_text("#!/bin/sh\n#SBATCH --comment=mine\n")
        error = self.run_ipcluster("slurm", "-n", "1", f"--batch-file={script}", status=1)
        self.assertIn("add a line with {engine}", error.stderr)
        self.nothing_is_left()
