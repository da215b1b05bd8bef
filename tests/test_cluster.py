"""``Cluster``: starting, changing and stopping clusters from Python."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import threading
import warnings

from ipython1.daemon import osprocess
from ipython1.kernel.cluster import Cluster
from ipython1.kernel.clusterconfig import ClusterError
from ipython1.kernel.clusters.launch import files_of
from ipython1.kernel.error import (
    ConnectionError,
    InvalidEngineID,
    ResultNotCompleted,
    SerializationError,
)
from tests.test_ipcluster import LIMIT, IpclusterCase, until


class ClusterCase(IpclusterCase):
    """Marks clusters that are started in this process, too."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("IPYTHONDIR", "IPYTHON1_TEST_MARK"):
            before = os.environ.get(name)
            os.environ[name] = self.environ[name]
            self.addCleanup(self.restore, name, before)

    @staticmethod
    def restore(name: str, value: str | None) -> None:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

    def started(self, *arguments: object, **options: object) -> Cluster:
        cluster = Cluster(*arguments, **options).start()  # type: ignore[arg-type]
        self.addCleanup(cluster.stop)
        return cluster

    def program(self, text: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run_to_end([self.python, "-c", textwrap.dedent(text)], status)


class EnginesTests(ClusterCase):
    KILLED = "was killed by signal SIGKILL"

    def ended(self, cluster: Cluster) -> dict[int, str]:
        """Why engines ended."""
        engines = cluster.status().engines
        return {each.id: each.reason for each in engines if each.state == "ended"}

    def test_engines_come_and_go(self) -> None:
        with Cluster(n=2) as cluster:
            self.assertEqual(cluster.ids, [0, 1])
            self.assertEqual(cluster.add_engines(2), [2, 3])
            self.assertEqual(cluster.wait_for_engines(4, timeout=1), [0, 1, 2, 3])
            cluster.remove_engines([0, 2])
            self.assertEqual(cluster.ids, [1, 3])
            self.assertEqual(cluster.add_engines(), [0])
            before = {each.id: each.pid for each in cluster.status().engines}
            cluster.restart_engine(1)
            after = {each.id: each.pid for each in cluster.status().engines}
            self.assertEqual(cluster.ids, [0, 1, 3])
            self.assertNotEqual(after[1], before[1])
            self.assertEqual((after[0], after[3]), (before[0], before[3]))
            self.assertIn("registered as engine 1", cluster.logs(1))
            self.assertIn("listening on port", cluster.logs())
            self.assertEqual(len(cluster.logs(lines=1).splitlines()), 1)
            self.assertRaises(InvalidEngineID, cluster.remove_engines, 7)
            self.assertRaises(InvalidEngineID, cluster.logs, 2)
            self.assertRaises(TypeError, cluster.remove_engines, "1")
            self.assertRaises(ValueError, cluster.signal, 1, "NONSENSE")
            self.assertRaises(TypeError, cluster.add_engines, 1.5)
            self.assertRaises(ValueError, cluster.add_engines, 0)
            self.assertRaises(TypeError, cluster.wait_for_engines, "2")
            self.assertRaises(TypeError, cluster.wait_for_engines, 2, "10")
            self.assertRaises(ValueError, cluster.wait_for_engines, 2, -1)
            self.assertRaises(ValueError, cluster.remove_engines, 1, finish=float("inf"))
            self.assertRaises(ValueError, cluster.logs, 1, lines=0)
            self.assertRaises(TypeError, cluster.restart_engine, "1")
            with self.assertRaises(ClusterError):
                cluster.wait_for_engines(5, timeout=LIMIT)  # at once: nobody starts a fifth one
            cluster.signal([1, 3], "KILL")
            until(lambda: self.ended(cluster) == {1: self.KILLED, 3: self.KILLED})
            self.assertEqual(cluster.ids, [0])
            cluster.restart_engine(3)
            self.assertEqual(cluster.ids, [0, 3])
        self.assertEqual(self.processes(), [])
        self.assertEqual(files_of(cluster.files), [])
        self.assertEqual(list(cluster.files.dirs.journal.iterdir()), [])
        with self.assertRaisesRegex(ClusterError, "is not started"):
            cluster.status()


class RestoreTests(ClusterCase):
    def restarted(self, cluster: Cluster, engine: int) -> None:
        """Kill an engine; returns when another has taken its place."""
        before = cluster.status().engines[engine]
        os.kill(before.pid, signal.SIGKILL)
        until(lambda: cluster.status().engines[engine].restarts > before.restarts)
        until(lambda: engine in cluster.ids)

    def test_names_are_there_before_an_engine_can_be_used_and_again_after_its_death(self) -> None:
        words = ["to", "be"]
        cluster = Cluster(n=2, restore={"words": words, "size": len}, restart=True)
        words.append("restored")  # what counts is what they are at the start
        cluster.start()
        self.addCleanup(cluster.stop)
        code = """
            from ipython1.kernel.client import Cluster
            mec = Cluster.attach({!r}).multiengine()
            print(mec.pull('words'), mec.execute('size(words)')[{}]['result']['text/plain'])
            mec.execute('words.append(1); later = 1')
            """
        identity = cluster.cluster_id
        self.assertIn("['to', 'be', 'restored']] 3", self.program(code.format(identity, 0)).stdout)
        self.restarted(cluster, 1)
        printed = self.program(code.format(identity, 1)).stdout
        # The dead engine's own changes are not restored.
        self.assertIn("[['to', 'be', 'restored', 1], ['to', 'be', 'restored']] 3", printed)

    def test_a_source_text_is_run_and_may_be_in_a_file_or_the_ini_file(self) -> None:
        setup = self.directory / "setup.py"
        setup.write_text("import math\n%time\nroot = math.sqrt(16)\n")
        program = (
            "from ipython1.kernel import client; print(client.MultiEngineClient().pull('root'))"
        )
        process = self.start("-n", "1", f"--restore={setup}")
        self.assertEqual(self.run_python(program), "[4.0]\n")
        process.terminate()
        process.wait(LIMIT)
        security = self.directory / "security"
        self.assertEqual(list(security.glob("*.restore")), [])
        ini = self.directory / "ipython1.kernel.ini"
        ini.write_text("[cluster]\nrestore = '''\nroot = 5\n'''\n")
        self.start("-n", "1")
        self.assertEqual(self.run_python(program), "[5]\n")

    def test_engines_that_cannot_be_prepared_are_not_offered(self) -> None:
        with self.assertRaisesRegex(
            ClusterError, "so this engine cannot be used: NameError: .*nothing"
        ):
            Cluster(n=1, restore="a = 1\nnothing\n").start()
        self.assertEqual(self.processes(), [])
        self.assertRaises(TypeError, Cluster, n=1, restore=5)
        self.assertRaises(ValueError, Cluster, n=1, restore={"not a name": 1})
        lock = threading.Lock()
        self.assertRaises(SerializationError, Cluster(n=1, restore={"lock": lock}).start)


class LifeTests(ClusterCase):
    def test_clients_and_tasks(self) -> None:
        printed = self.program(
            """
            from ipython1.kernel.client import Cluster
            with Cluster(n=2) as cluster:
                mec = cluster.multiengine()
                print(mec.get_ids(), mec.map(lambda x: x * x, range(4)))
            """
        ).stdout
        self.assertEqual(printed, "[0, 1] [0, 1, 4, 9]\n")
        self.assertEqual(self.processes(), [])

    def test_nothing_is_left_when_the_program_ends_without_stopping_or_by_an_error(self) -> None:
        error = self.program(
            """
            from ipython1.kernel.client import Cluster
            cluster = Cluster(n=1).start()
            with Cluster(n=1):
                1 / 0
            """,
            status=1,
        ).stderr
        self.assertIn("ZeroDivisionError", error)
        self.assertEqual(self.processes(), [])

    def test_nothing_is_left_when_the_program_is_killed(self) -> None:
        code = """
            import os, signal
            from ipython1.kernel.client import Cluster
            cluster = Cluster(n=1).start()
            if os.fork() == 0:
                os.closerange(0, 3)
                signal.pause()  # a forked child does not keep the cluster alive
            os.kill(os.getpid(), signal.SIGKILL)
            """
        self.program(code, status=-signal.SIGKILL)
        until(lambda: len(self.processes()) == 1)
        self.assertEqual(list((self.directory / "security").iterdir()), [])

    def test_a_forked_child_that_ends_takes_nothing_with_it(self) -> None:
        printed = self.program(
            """
            import os, sys
            from ipython1.kernel.client import Cluster
            from ipython1.kernel.clusters.launch import files_of
            with Cluster(n=1) as cluster, Cluster.attach(cluster.cluster_id) as other:
                files = files_of(cluster.files)
                child = os.fork()
                if child == 0:
                    sys.exit(0)
                print(os.waitpid(child, 0)[1], files_of(cluster.files) == files, cluster.ids, other.ids)
            """
        ).stdout
        self.assertEqual(printed, "0 True [0] [0]\n")

    def test_detached_and_attached(self) -> None:
        """A detached cluster outlives its program; another program attaches to it, uses it and stops it."""
        self.program(
            """
            from ipython1.kernel.client import Cluster
            with Cluster(n=1, cluster_id="far", detach=True) as cluster:
                pass
            """
        )
        with Cluster.attach("far") as cluster:
            self.assertEqual((cluster.kind, cluster.ids), ("local", [0]))
            self.assertEqual(cluster.add_engines(1), [1])
        with Cluster.attach("far") as cluster:
            self.assertEqual(cluster.ids, [0, 1])
            cluster.stop()
        self.assertEqual(self.processes(), [])
        with self.assertRaisesRegex(ClusterError, "there is no cluster 'far'"):
            Cluster.attach("far")

    def test_two_at_the_same_time_and_the_ini_file_says_what_is_not_said(self) -> None:
        (self.directory / "ipython1.kernel.ini").write_text("[cluster]\nn = 2\n")
        with Cluster(n=1) as one, Cluster() as two:
            self.assertNotEqual(one.cluster_id, two.cluster_id)
            self.assertEqual((one.ids, two.ids), ([0], [0, 1]))


class FailureTests(ClusterCase):
    def test_bad_arguments(self) -> None:
        self.assertRaises(ValueError, Cluster, -1)
        self.assertRaises(TypeError, Cluster, True)
        with self.assertRaisesRegex(TypeError, "no option 'colour'.*queue"):
            Cluster(2, colour="red")
        with self.assertRaisesRegex(ClusterError, "unknown launcher 'magic'"):
            Cluster(1, "magic").start()
        with self.assertRaisesRegex(ClusterError, "--start-timeout"):
            Cluster(1, start_timeout="soon").start()

    def test_engines_that_do_not_start_raise_with_their_last_words(self) -> None:
        with self.assertRaisesRegex(
            ClusterError, "no engine.*\nengines 0-1 .*arguments: --nonsense"
        ):
            Cluster(2, engine_arguments=["--nonsense"]).start()
        self.assertEqual(self.processes(), [])

    def test_what_fails_later_is_told(self) -> None:
        cluster = self.started(1)
        self.check_an_engine_that_fails(cluster)
        self.check_an_engine_that_does_not_come(cluster)
        osprocess.send_signal(cluster.status().pid, signal.SIGKILL)
        with self.assertRaisesRegex(ConnectionError, "the cluster is gone"):
            cluster.wait_for_engines(3)
        cluster.stop()
        self.assertEqual(self.processes(), [])

    def check_an_engine_that_fails(self, cluster: Cluster) -> None:
        """It raises, without a warning beside."""
        place = cluster.files.log_file("ipengine-1.log")
        place.mkdir()  # so it cannot open its log file
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with self.assertRaisesRegex(ClusterError, "cannot open the log file"):
                cluster.add_engines(1)
        self.assertEqual(caught, [])
        self.assertEqual(cluster.ids, [0])
        place.rmdir()

    def check_an_engine_that_does_not_come(self, cluster: Cluster) -> None:
        """It is waited for no longer than asked."""
        cluster.files.engine_furl.unlink()
        adding = subprocess.Popen(
            self.command("engines", "-n", "1", f"--cluster-id={cluster.cluster_id}"),
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(adding.wait)
        self.addCleanup(adding.kill)
        until(lambda: any(each.id and each.state != "ended" for each in cluster.status().engines))
        with self.assertRaisesRegex(ResultNotCompleted, "1 engines were usable after 0.3 s"):
            cluster.wait_for_engines(2, timeout=0.3)
        self.assertEqual(cluster.ids, [0])
        adding.kill()
        adding.wait()


UNDER_ASYNCIO = """
import asyncio
{}
asyncio.run(main())
"""

UNDER_A_REACTOR_ON_ASYNCIO = """
import asyncio
from twisted.internet import asyncioreactor
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asyncioreactor.install(loop)
{}
from twisted.internet import reactor
async def run():
    await main()
    reactor.callLater(0, reactor.stop)
loop.call_soon(lambda: loop.create_task(run()))
reactor.run()
"""


class AsyncTests(ClusterCase):
    def under_asyncio(self, text: str, program: str = UNDER_ASYNCIO) -> str:
        """What a program prints that defines a coroutine function ``main``, which runs in asyncio's loop."""
        return self.program(program.format(textwrap.dedent(text))).stdout

    def test_under_asyncio(self) -> None:
        printed = self.under_asyncio(
            """
            import os, signal
            from ipython1.kernel.asynccluster import AsyncCluster
            from ipython1.kernel.client import ClientError, MultiEngineClient
            from ipython1.kernel.clusters import asynccluster
            from ipython1.kernel.error import ResultNotCompleted

            async def main():
                async with AsyncCluster(n=1) as cluster:
                    mec = await cluster.multiengine()
                    await mec.push({"a": 3})
                    added = await cluster.add_engines(1, env={"SOME_THING": "b c"})
                    await mec.execute("import os; a = os.environ['SOME_THING']", targets=added)
                    print(added, await cluster.ids(), await mec.pull("a"))
                    await cluster.restart_engine(1)
                    await cluster.signal(1, "KILL")
                    other = await AsyncCluster.attach(cluster.cluster_id)
                    print((await other.status()).kind)
                    await mec.close()
                    asynccluster.ANSWER_MARGIN = 0.1
                    pid = (await cluster.status()).pid
                    os.kill(pid, signal.SIGSTOP)
                    try:
                        await other.wait_for_engines(9, timeout=0.1)
                    except ResultNotCompleted as problem:
                        print(str(problem).replace(str(pid), "PID"))
                    os.kill(pid, signal.SIGCONT)
                    other.close()
                    try:
                        MultiEngineClient()
                    except ClientError as problem:
                        print(problem)
                try:
                    await cluster.ids()
                except Exception as problem:
                    print(type(problem).__name__)
            """
        )
        first, kind, stopped, refused, last = printed.splitlines()
        self.assertEqual((first, kind, last), ("[1] [0, 1] [3, 'b c']", "local", "ClusterError"))
        self.assertIn(
            "did not answer in time: wait; its ipcluster (process PID) is stopped", stopped
        )
        self.assertIn("use ipython1.kernel.asyncclient there", refused)
        self.assertEqual(self.processes(), [])

    def test_a_second_loop_is_refused_and_does_not_wait(self) -> None:
        printed = self.program(
            """
import asyncio
from ipython1.kernel.asynccluster import AsyncCluster
from ipython1.kernel.client import ClientError

cluster = AsyncCluster(n=0)

async def call(method):
    await getattr(cluster, method)()

async def block():
    async with AsyncCluster(n=0):
        print("not reached")

asyncio.run(call("start"))
for work in (call("ids"), call("monitor"), call("stop"), block()):
    try:
        asyncio.run(work)
    except ClientError as problem:
        print(str(problem).split(",")[0])
"""
        ).stdout
        refusal = "Twisted's reactor is on an event loop that has ended\n"
        self.assertEqual(printed, 4 * refusal)
        until(lambda: not self.processes())  # the cluster ends with its program

    def test_a_start_that_is_cancelled_leaves_nothing(self) -> None:
        printed = self.under_asyncio(
            """
            from ipython1.kernel.asynccluster import AsyncCluster
            from ipython1.kernel.clusters.launch import files_of

            async def main():
                cluster = AsyncCluster(n=1)
                try:
                    async with asyncio.timeout(0.01):
                        async with cluster:
                            print("not reached")
                except TimeoutError:
                    print("cancelled", files_of(cluster.files))
                try:
                    await cluster.ids()
                except Exception as problem:
                    print(type(problem).__name__)
            """,
            UNDER_A_REACTOR_ON_ASYNCIO,
        )
        self.assertEqual(printed, "cancelled []\nClusterError\n")
        self.assertEqual(self.processes(), [])
