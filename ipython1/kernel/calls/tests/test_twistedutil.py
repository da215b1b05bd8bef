"""The seam between threads that block and the reactor's thread."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.tests.wiresupport import run_program


class SeamTest(SynchronousTestCase):
    """Each in a process of its own, as a test runner has the reactor for itself."""

    def test_calls_and_what_becomes_of_them(self):
        run_program(
            """
            import threading
            from twisted.internet.defer import Deferred, fail, succeed
            from ipython1.kernel.basics.error import ClientError, ResultNotCompleted
            from ipython1.kernel.calls.twistedutil import (
                blockingCallFromThread, in_reactor_thread, reactor_in_thread, refuse_in_reactor_thread)

            def raises(kind, *args, **kwargs):
                try:
                    blockingCallFromThread(*args, **kwargs)
                except kind as problem:
                    return problem
                raise AssertionError(kind)

            async def coroutine(value):
                await succeed(None)
                return value

            async def failing():
                await succeed(None)
                raise KeyError("k")

            async def out_of_time():
                raise TimeoutError("its own")

            assert not in_reactor_thread()
            refuse_in_reactor_thread()
            assert blockingCallFromThread(lambda: 5) == 5
            assert blockingCallFromThread(lambda a, *, b: a + b, 1, b=2) == 3
            assert blockingCallFromThread(succeed, "x") == "x"
            assert blockingCallFromThread(coroutine, "y") == "y"
            assert blockingCallFromThread(in_reactor_thread)
            raises(ZeroDivisionError, lambda: 1 / 0)
            raises(ValueError, fail, ValueError("v"))
            raises(KeyError, failing)
            assert "0.01 s" in str(raises(ResultNotCompleted, Deferred, timeout=0.01))
            assert str(raises(TimeoutError, out_of_time, timeout=20)) == "its own"
            raises(ClientError, lambda: blockingCallFromThread(lambda: 1))
            raises(ClientError, refuse_in_reactor_thread)

            reactors = []
            threads = [threading.Thread(target=lambda: reactors.append(reactor_in_thread.start())) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            assert len(set(map(id, reactors))) == 1
            assert sum(t.name == "ipython1-reactor" for t in threading.enumerate()) == 1

            answers = []
            def many():
                for n in range(200):
                    answers.append(blockingCallFromThread(lambda: n))
            threads = [threading.Thread(target=many) for _ in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            assert len(answers) == 800
            """
        )

    def test_threads_that_come_while_it_is_started_are_served(self):
        run_program(
            """
            import threading
            from ipython1.kernel.calls.twistedutil import blockingCallFromThread

            answers, others = [], []

            class Watched(threading.Thread):
                def start(self):
                    # Others come when the reactor's thread is there and does not run yet, and it runs only when
                    # each of them has got an answer or waits for the one that starts it.
                    for n in range(4):
                        other = plain(target=lambda: answers.append(blockingCallFromThread(lambda: 1)))
                        others.append(other)
                        other.start()
                        other.join(0.05)
                    super().start()

            plain, threading.Thread = threading.Thread, Watched
            assert blockingCallFromThread(lambda: 1) == 1
            for other in others: other.join()
            assert answers == [1] * 4, answers
            """
        )

    def test_ctrl_c_gets_through_and_the_call_goes_on(self):
        run_program(
            """
            import _thread, threading
            from twisted.internet.defer import Deferred
            from ipython1.kernel.calls.twistedutil import blockingCallFromThread

            slow = Deferred()
            begun = threading.Event()

            def begin():
                begun.set()
                return slow

            def interrupt():
                begun.wait()
                import os, signal
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            try:
                blockingCallFromThread(begin)
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError
            blockingCallFromThread(slow.callback, None)
            assert blockingCallFromThread(lambda: 1) == 1
            """
        )

    def test_a_reactor_that_has_ended_is_not_waited_for(self):
        run_program(
            """
            import atexit

            def at_the_very_end():
                from ipython1.kernel.basics.error import ClientError
                for call in (mec.get_ids, lambda: mec.execute("a"), lambda: mec.execute("a", block=False),
                             lambda: mec.queue_status(block=False), lambda: mec.kill(block=False)):
                    try:
                        call()
                    except ClientError as problem:
                        assert "ended" in str(problem), problem
                    else:
                        print("not refused")
                print("refused")

            atexit.register(at_the_very_end)  # runs after what is registered later
            from twisted.internet import reactor
            from ipython1.kernel.calls.connect import Connection
            from ipython1.kernel.clients.multiengineclient import MultiEngineClient
            from ipython1.kernel.calls.twistedutil import blockingCallFromThread
            from ipython1.testing import InMemoryCluster, ReactorPump
            cluster = blockingCallFromThread(lambda: InMemoryCluster(1, ReactorPump()))
            _, end = blockingCallFromThread(cluster.connect, cluster.multiengine_face)
            mec = MultiEngineClient(Connection(reactor, None, end, "memory"))
            assert mec.get_ids() == [0]
            """
        )

    def test_a_reactor_that_cannot_be_started_is_not_waited_for(self):
        run_program(
            """
            from twisted.internet import reactor
            from ipython1.kernel.basics.error import ClientError
            from ipython1.kernel.calls.twistedutil import blockingCallFromThread
            import threading
            reactor.callWhenRunning(reactor.stop)
            reactor.run()
            threading.excepthook = lambda args: None  # the reactor's own complaint
            refused = []

            def call():
                for _ in range(2):
                    try:
                        blockingCallFromThread(lambda: 1)
                    except ClientError as problem:
                        refused.append("cannot be restarted" in str(problem))

            thread = threading.Thread(target=call)
            thread.start()
            thread.join(20)
            assert refused == [True, True], refused
            """
        )

    def test_a_forked_process_is_told(self):
        run_program(
            """
            import os, sys
            from twisted.internet import reactor
            from ipython1.kernel.calls.connect import Connection
            from ipython1.kernel.calls.pendingresult import PendingResult
            from ipython1.kernel.basics.error import ClientError
            from ipython1.kernel.clients.multiengineclient import MultiEngineClient
            from ipython1.kernel.calls.twistedutil import blockingCallFromThread
            from ipython1.testing import InMemoryCluster, ReactorPump
            cluster = blockingCallFromThread(lambda: InMemoryCluster(1, ReactorPump()))
            _, end = blockingCallFromThread(cluster.connect, cluster.multiengine_face)
            mec = MultiEngineClient(Connection(reactor, None, end, "memory"))
            begun = PendingResult(list, "execute")
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    refused = 0
                    for call in (mec.get_ids, lambda: mec.execute("a"), lambda: mec.execute("a", block=False),
                                 lambda: begun.r):
                        try:
                            call()
                        except ClientError as problem:
                            refused += "forked" in str(problem)
                    status = 0 if refused == 4 else 2
                finally:
                    os._exit(status)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0, status
            assert mec.get_ids() == [0]
            """
        )

    def test_a_reactor_that_the_program_runs_itself_is_used(self):
        run_program(
            """
            from twisted.internet import reactor, threads
            from ipython1.kernel.calls.twistedutil import blockingCallFromThread

            def work():
                return blockingCallFromThread(lambda: "from the program's own reactor")

            answers = []
            def begin():
                work_done = threads.deferToThread(work)
                work_done.addBoth(answers.append)
                work_done.addBoth(lambda _: reactor.stop())
            reactor.callWhenRunning(begin)
            reactor.run()
            assert answers == ["from the program's own reactor"], answers
            """
        )
