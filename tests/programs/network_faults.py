"""Broken connections, strangers, and clients that die or stop halfway."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipython1.kernel import client

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.proxy import Proxy

SOON = 15.0
SECURITY = Path(os.environ["IPYTHONDIR"]) / "security"

mec = client.MultiEngineClient()
tc = client.TaskClient()
port = client.default_mec_address[1]
controller = int((SECURITY / "ipcontroller.lock").read_text())


def until(condition: Callable[[], Any], what: str, limit: float = SOON) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        time.sleep(0.02)


def open_files() -> int:
    return len(os.listdir(f"/proc/{controller}/fd"))


def another_client(code: str) -> subprocess.Popen[str]:
    """A program with its own client, after it has printed a line."""
    head = "from ipython1.kernel import client; mec = client.MultiEngineClient()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


def served() -> None:
    assert mec.execute("served = 1", targets=[0, 1], block=False).get_result(timeout=SOON)


at_rest = open_files()

# a client dies in the middle of a push: nothing of it remains
for pause in (0.02, 0.1, 0.2):
    dying = another_client(
        "a = bytes(400_000_000); print(1, flush=True); mec.push({'half': a, 'b': 1})"
    )
    time.sleep(pause)
    dying.kill()
    dying.communicate()
    served()
    there = mec.execute("print('half' in globals(), 'b' in globals())")
    words = {word for result in there for word in result["stdout"].split()}
    assert len(words) == 1, f"a push was done by half: {there}"

# a client that stops or dies in the middle of a pull delays nobody
mec.execute("whole = bytes(100_000_000)")
stopping = another_client("print(1, flush=True); mec.pull('whole'); print('whole', flush=True)")
stopping.send_signal(signal.SIGSTOP)
served()
stopping.send_signal(signal.SIGCONT)
assert stopping.communicate(timeout=60)[0] == "whole\n"
dying = another_client("print(1, flush=True); mec.pull('whole')")
dying.kill()
dying.communicate()
served()

# strangers are disconnected, and do not keep others from connecting
strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
for index, stranger in enumerate(strangers):
    if index % 3:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" if index % 3 == 1 else os.urandom(4000))
newcomer = client.MultiEngineClient(timeout=SOON)
assert newcomer.get_ids() == [0, 1]
newcomer.close()
until(lambda: open_files() <= at_rest, "the strangers are gone, and files are closed")
for stranger in strangers:
    stranger.close()

with Proxy(port) as proxy:
    # a client whose connection breaks connects again; its work goes on, and runs only once
    far = client.MultiEngineClient(("127.0.0.1", proxy.port))
    pending = far.execute(
        "import time; time.sleep(0.3); done = globals().get('done', 0) + 1", block=False
    )
    proxy.reset()
    pending.get_result(timeout=SOON)
    assert far.pull("done") == [1, 1] == mec.pull("done")
    far.close()

    # an engine whose connection breaks reconnects as the same engine, and keeps its variables
    engine = subprocess.Popen(
        [
            *(sys.executable, "-m", "ipython1.kernel.scripts.ipengine"),
            *("--controller-ip=127.0.0.1", f"--controller-port={proxy.port}"),
        ]
    )
    try:
        until(lambda: 2 in mec.get_ids(), "a third engine", 30)
        mec.execute("kept = 'still here'", targets=2)
        with tempfile.NamedTemporaryFile() as notes:

            def note(number: int, path: str = notes.name) -> int:
                import time

                with open(path, "a") as file:
                    file.write(f"{number}\n")
                time.sleep(0.05)
                return number

            task_ids = [tc.run(client.MapTask(note, (n,), retries=5)) for n in range(100)]
            for _ in range(3):
                time.sleep(0.3)
                proxy.reset()
                until(lambda: 2 in mec.get_ids(), "the engine is back")
            tc.barrier(task_ids, timeout=60)
            results = [tc.get_task_result(task_id).results["result"] for task_id in task_ids]
            assert results == list(range(100))
            runs = len(Path(notes.name).read_text().split())
            assert runs == 100, f"100 tasks ran {runs} times"
        assert mec.pull("kept", targets=2) == ["still here"]

        # an engine that falls silent delays nobody else
        proxy.silence()
        silent = mec.execute("a = 1", targets=2, block=False)
        served()
        proxy.speak()
        assert silent.get_result(timeout=SOON)
    finally:
        engine.kill()
        engine.wait()

until(lambda: open_files() <= at_rest, f"all files are closed, {at_rest} before")
secrets = [path.read_text().strip().rpartition("/")[2] for path in SECURITY.glob("*.furl")]
assert len(secrets) == 4
for log in (SECURITY.parent / "log").iterdir():
    text = log.read_text(errors="replace")
    assert not any(secret in text for secret in secrets), f"a capability is in {log.name}"
print("everybody else was served")
