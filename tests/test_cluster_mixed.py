"""Engines of several kinds in one cluster, and what they are given: their environment, directory and Python."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping

from ipython1.daemon import osprocess
from tests.test_ipcluster import LIMIT, MARK, IpclusterCase, until
from tests.testbeds import mpi_program, testbed

PRELUDE = """
import json, sys
from ipython1.kernel.client import Cluster
from ipython1.kernel.error import ClusterError
cluster = Cluster.attach()
given = json.load(open("given.json"))
"""

SEEN = """
mec = cluster.multiengine()
mec.execute('''
import os
seen = [os.environ.get("TEST_VALUE"), os.environ.get("TEST_PYTHON"), os.getcwd()]
''')
"""

SEVERAL = """
from concurrent.futures import ThreadPoolExecutor

def together(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.exception() or future.result() for future in [pool.submit(*call) for call in calls]]

def without():
    return cluster.add_engines(1, cwd="/no/such")

def others():
    return Cluster.attach().add_engines(1)  # as another program does

*added, failed, one = together(
    (cluster.add_engines, 1), (cluster.add_engines, 1), (without,), (others,)
)
ids = sorted(id for each in (*added, one) for id in each)
assert "engine" in str(failed) and "/no/such does not exist" in str(failed), failed
assert len(set(ids)) == 3 and cluster.ids == [0, *ids], (ids, cluster.ids)
a, b = ids[:2]
assert together(*[(cluster.restart_engine, each) for each in (a, a, b)]) == [None] * 3
assert cluster.ids == [0, *ids]
assert together(*[(cluster.remove_engines, each) for each in (a, [a, b], b)]) == [None] * 3
assert cluster.ids == [0, *ids[2:]], cluster.ids
print("all is well")
"""

VALUE = "two  words, 'single' and \"double\" $HOME `x` \\ \u00e9\u4e16\nand a second line"


class MixedTests(IpclusterCase):
    """A cluster that begins without engines, to which every kind adds some."""

    def setUp(self) -> None:
        mpiexec, mpi_python = mpi_program("openmpi")
        ssh, slurm = testbed("ssh", max_startups="10:30:100"), testbed("slurm", nodes=2)
        super().setUp()
        self.environ.update(slurm.environ)
        self.where = self.directory / "a place \u00e9"
        self.where.mkdir()
        given = {
            "ssh": f"ssh -F {ssh.environ['SSH_CONFIG']}",
            "mpiexec": mpiexec,
            "env": {"TEST_VALUE": VALUE, MARK: self.mark},
            "cwd": str(self.where),
            "python": self.make_python("python", sys.executable),
            "mpi_python": self.make_python("mpi python", str(mpi_python)),
        }
        (self.directory / "given.json").write_text(json.dumps(given))

    def make_python(self, name: str, python: str) -> str:
        """Another interpreter, which engines can tell from the usual one."""
        path = self.where / name
        command = f'exec {shlex.quote(python)} "$@"'
        path.write_text(
            f"#!/bin/sh\nTEST_PYTHON={shlex.quote(name)}\nexport TEST_PYTHON\n{command}\n"
        )
        path.chmod(0o700)
        return str(path)

    def ask(self, code: str, environ: Mapping[str, str] | None = None) -> str:
        """Run a program that changes the cluster."""
        done = subprocess.run(
            [self.python, "-c", PRELUDE + code],
            env=environ or self.environ,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_every_kind(self) -> None:
        process = self.start("-n", "0", "--client-ip=::")
        self.assertIn("is up: no engines yet; to add some: ipcluster engines -n 4", self.printed[0])
        added = """
more = {name: given[name] for name in ("env", "cwd", "python")}
print(cluster.add_engines(1, **more))
print(cluster.add_engines(kind="ssh", hosts={"node1": 1, "node2": 1}, ssh=given["ssh"], **more))
print(cluster.add_engines(2, "slurm", queue="main", **more))
more["python"] = given["mpi_python"]
print(cluster.add_engines(2, "mpiexec", mpiexec=given["mpiexec"], mpi="mpi4py", **more))
"""
        self.assertEqual(self.ask(added), "[0]\n[1, 2]\n[3, 4]\n[5, 6]\n")
        self.check_what_they_see()
        self.check_changes()
        status = self.status()
        self.assertEqual(len(status.jobs), 2)
        self.assertEqual([each.host for each in status.engines], ["", "", "node2", ""])
        pids = self.processes()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        until(lambda: not any(osprocess.is_alive(pid) for pid in pids))
        self.nothing_is_left()

    def check_what_they_see(self) -> None:
        printed = self.ask(SEEN + 'print(json.dumps(mec.pull("seen")))\n')
        for engine, seen in enumerate(json.loads(printed)):
            python = "mpi python" if engine >= 5 else "python"
            self.assertEqual(seen, [VALUE, python, str(self.where)], f"engine {engine}")

    def check_changes(self) -> None:
        """Each engine is restarted, signalled, looked at and removed by the launcher that has started it."""
        printed = self.ask(
            """
for each in cluster.ids:
    assert f"registered as engine {each}" in cluster.logs(each), (each, cluster.logs(each))
for each in (0, 1):
    cluster.restart_engine(each)
for each, words in ((3, "engines of a batch job cannot be"), (5, "engines of an MPI job cannot be")):
    try:
        cluster.restart_engine(each)
    except ClusterError as problem:
        assert str(problem).startswith(words), problem
    else:
        raise AssertionError(each)
"""
            + SEEN
            + """
mec.execute("import signal; signal.signal(signal.SIGUSR1, lambda *_: globals().update(got=1)); got = 0")
cluster.signal([0, 2, 4], "SIGUSR1")
while mec.pull("got", targets=[0, 2, 4]) != [1, 1, 1]:
    pass
print(len(set(map(tuple, mec.pull("seen", targets=[0, 1, 2, 3, 4])))))
for each in ([0], [1], [3], [5, 6]):
    cluster.remove_engines(each)
print(cluster.ids)
print(cluster.add_engines(1), cluster.add_engines(1, "slurm"))
"""
        )
        self.assertEqual(printed, "1\n[2, 4]\n[0] [1]\n")

    def test_on_one_host(self) -> None:
        self.start("-n", "1")
        self.check_what_goes_wrong()
        self.assertEqual(self.ask(SEVERAL), "all is well\n")

    def check_what_goes_wrong(self) -> None:
        error = self.run_ipcluster("engines", "slurm", "-n", "2", status=1).stderr
        self.assertRegex(
            error,
            "^ipcluster: engines of kind 'slurm' may run on other hosts, but the controller of the cluster listens at "
            r"127\.0\.0\.1, for this host only; stop it, and start it again for other hosts, too: "
            "ipcluster local -n 1 --client-ip=::\n$",
        )
        for words, message in (
            (
                ["--queue=main"],
                "--queue is for slurm, sge, pbs, torque, lsf and flux, not for 'local'",
            ),
            (["--cwd=no-such"], "the working directory {}/no-such does not exist"),
            (["--python=no/python"], "program '{}/no/python' not found on this host"),
            (["--python=false"], "exited with status 1"),
        ):
            command = self.command("engines", *words)
            done = subprocess.run(
                command,
                env=self.environ,
                cwd=self.directory,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            self.assertEqual(done.returncode, 1)
            self.assertIn(message.format(self.directory), done.stderr)
        self.assertEqual(self.status().ids, (0,))
