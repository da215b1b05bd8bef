"""Tests for pytest of a program that uses a cluster."""

import os
import signal
import threading

import pytest
import wordcount

from ipython1.kernel.client import MapTask, MultiEngineClient
from ipython1.kernel.error import CompositeError, EngineDied

# -- in the test's process


def test_words_are_counted(ipython1_in_process):
    mec = ipython1_in_process.multiengine()
    assert wordcount.count_texts(mec, ["a b", "B c"]) == {"a": 1, "b": 2, "c": 1}


def test_a_file_is_tried_again(ipython1_in_process, monkeypatch):
    attempts = []

    def read_at_the_third_attempt(path):
        attempts.append(path)
        if len(attempts) < 3:
            raise OSError("the server is busy")
        return "a b"

    monkeypatch.setattr(wordcount, "read", read_at_the_third_attempt)
    tc = ipython1_in_process.task()
    assert wordcount.count_files(tc, ["one.txt"], retries=2) == {"a": 1, "b": 1}
    assert attempts == ["one.txt"] * 3


def test_the_error_is_told_when_nothing_helps(ipython1_in_process):
    with pytest.raises(FileNotFoundError):
        wordcount.count_files(ipython1_in_process.task(), ["/no/such/file"], retries=1)


began, go_on = threading.Event(), threading.Event()


def wait():
    began.set()
    return go_on.wait(10)


def test_a_task_survives_its_engine(ipython1_in_process):
    tc = ipython1_in_process.task()
    task_id = tc.run(MapTask(wait, retries=1))
    assert began.wait(10)  # an engine in this process has this module's events
    first = tc.history()[-1].engineid
    ipython1_in_process.kill_engine(first)
    go_on.set()
    result = tc.get_task_result(task_id, block=True)
    assert result.engineid != first


# -- with processes


def test_on_processes(ipython1_engines):
    assert wordcount.count_texts(ipython1_engines, ["a b", "b c"])["b"] == 2


@pytest.mark.ipython1(engines=3)
def test_each_engine_is_a_process(ipython1_engines):
    pids = ipython1_engines.apply(os.getpid)
    assert len({os.getpid(), *pids}) == 4


def test_a_program_that_connects_by_itself(ipython1_cluster):
    mec = MultiEngineClient()  # finds the cluster of this test
    assert mec.get_ids() == [0, 1]


def die_once(mark):
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@pytest.mark.parametrize("retries", [0, 1])
def test_a_process_that_dies(ipython1_cluster, tmp_path, retries):
    tc = ipython1_cluster.task()
    task = MapTask(die_once, [str(tmp_path / "mark")], retries=retries)
    result = tc.run(task, block=True)
    if retries:
        assert result.result == "alive"
    else:
        with pytest.raises(EngineDied):
            result.raise_exception()


def test_an_engine_that_is_killed(ipython1_cluster):
    mec = ipython1_cluster.multiengine()
    pending = mec.execute("import time; time.sleep(60)", targets=0, block=False)
    ipython1_cluster.kill_engine(0)
    with pytest.raises(CompositeError, match="EngineDied"):
        pending.get_result(timeout=10)
    assert mec.get_ids() == [1]
