"""User code that harms its engine, and a forked client that is refused: nobody else is disturbed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from ipython1.kernel import client

SOON = 15.0

mec = client.MultiEngineClient()
tc = client.TaskClient()


def raises(kind: type[BaseException], text: str, call: Callable[..., Any], *args: Any) -> None:
    begun = time.monotonic()
    try:
        call(*args)
    except kind as problem:
        assert text in str(problem), f"{text!r} is not in {problem!s}"
        assert time.monotonic() - begun < SOON, "the error came late"
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def run(code: str, target: int = 0) -> str:
    pending = mec.execute(code, targets=target, block=False)
    return str(pending.get_result(timeout=SOON)[0].get("stdout", ""))


# streams that the user closes, deletes or replaces: the next command prints as usual
for harm in (
    "import os; os.close(1); os.close(2)\nprint('told')",
    "import sys; sys.stdout.close(); sys.__stderr__.close()",
    "import sys; del sys.stdout, sys.stderr",
):
    with contextlib.suppress(client.CompositeError):
        run(harm)
    with contextlib.suppress(client.CompositeError):
        run("pass")
    assert run("print('well')").endswith("well\n"), harm

# a child that user code forks ends where that code ends, and reports how
fork = "import os, sys\npid = os.fork()\nif not pid:\n    {}\nelse:\n    print(os.waitpid(pid, 0)[1] >> 8)"
assert run(fork.format("print('child')")).split() == ["child", "0"]
assert run(fork.format("sys.exit(3)")).split() == ["3"]
assert run(fork.format("raise ValueError")).split() == ["1"]


def fork_in_a_task() -> tuple[int, int]:
    child = os.fork()
    return (child, os.waitpid(child, 0)[1]) if child else (0, 0)


child, status = tc.run(client.MapTask(fork_in_a_task), block=True).results["result"]
assert child and not status

# the death of an engine is noticed at once, even if a process that it forked lives on
engine = subprocess.Popen(
    [sys.executable, "-m", "ipython1.kernel.scripts.ipengine"], start_new_session=True
)
try:
    deadline = time.monotonic() + 30
    while 2 not in mec.get_ids():
        assert time.monotonic() < deadline, "the third engine did not come"
        time.sleep(0.05)
    run("import os, time\nif not os.fork():\n    time.sleep(120)\n    os._exit(0)", 2)
    waiting = mec.execute("import time; time.sleep(120)", targets=2, block=False)
    engine.kill()
    raises(client.CompositeError, "EngineDied: engine 2", waiting.get_result, None, True, SOON)
finally:
    os.killpg(engine.pid, signal.SIGKILL)
    engine.wait()

# exceptions that end the program when they are displayed
raises(
    client.CompositeError,
    "could not be shown",
    run,
    "class Ending(Exception):\n    def __str__(self): raise SystemExit\nraise Ending",
)

# no memory for what arrives: that call fails, the engine stays
run("import resource; resource.setrlimit(resource.RLIMIT_AS, (768 << 20, 768 << 20)); kept = 1")
too_much = mec.push({"much": bytes(900 << 20)}, targets=0, block=False)
raises(client.CompositeError, "not enough memory", too_much.get_result, None, True, 60.0)
assert run("print(kept)") == "1\n"

# a forked client gets an error instead of waiting
pid = os.fork()
if pid == 0:
    status = 1
    try:
        for call in (
            mec.get_ids,
            lambda: mec.execute("a = 1"),
            lambda: tc.run(client.Task("a = 1")),
            lambda: tc.map(abs, range(3)),
            client.MultiEngineClient,
        ):
            raises(client.ClientError, "forked", call)
        status = 0
    finally:
        os._exit(status)
deadline = time.monotonic() + SOON
while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
    if time.monotonic() > deadline:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.01)
assert ended[1] == 0, f"the forked client ended with {ended[1]}"
assert mec.execute("a = 1") and tc.run(client.Task("a = 1", pull="a"), block=True)["a"] == 1
print("nobody else was disturbed")
