"""Bad input and broken engines each cause one clear error, soon, and everything else goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from ipython1.kernel import client


def raises(
    kind: type[BaseException] | tuple[type[BaseException], ...],
    text: str,
    call: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    begun = time.monotonic()
    try:
        call(*args, **kwargs)
    except kind as problem:
        assert text in str(problem), f"{text!r} is not in {problem!s}"
        assert time.monotonic() - begun < 10, "the error came late"
        return problem
    raise AssertionError(f"{kind} was not raised")


mec = client.MultiEngineClient()

# targets and names
raises(client.InvalidEngineID, "there is no engine 9", mec.execute, "a=1", targets=9)
raises(
    client.InvalidEngineID, "there is no engine 9", mec.execute, "a=1", targets=[0, 9], block=False
)
raises(client.InvalidEngineID, "empty", mec.execute, "a=1", targets=[])
raises(TypeError, "'some'", mec.execute, "a=1", targets="some")
raises(TypeError, "str", mec.execute, 5)
raises(ValueError, "not a name", mec.push, {"not a name": 1})
problem = raises(client.CompositeError, "NotDefined", mec.pull, "nothing", targets=[0, 1])
assert "nothing" in str(problem.exceptions[0])
assert mec.execute("executed_after = 1", targets=0)

# objects that cannot be sent
lock = threading.Lock()
raises(client.SerializationError, "lock", mec.push, {"a": lock})
mec.execute("import threading; unsendable = threading.Lock()")
raises(client.CompositeError, "cannot be sent", mec.pull, "unsendable")
mec.execute(
    "class Odd(Exception):\n"
    "    def __init__(self, one, two):\n"
    "        super().__init__('odd ' + one + two)\n"
    "class Worse(Exception):\n"
    "    def __str__(self):\n"
    "        raise ValueError('no')\n"
    "class Stubborn(Exception):\n"
    "    def __reduce__(self):\n"
    "        raise ValueError('never')\n"
)
raises(client.CompositeError, "odd xy", mec.execute, "raise Odd('x', 'y')", targets=0)
raises(client.CompositeError, "Worse", mec.execute, "raise Worse()", targets=0)
raises(client.CompositeError, "Stubborn", mec.execute, "raise Stubborn('s')", targets=0)
raises(client.CompositeError, "SystemExit", mec.execute, "import sys; sys.exit(3)", targets=0)
raises(client.CompositeError, "EOFError", mec.execute, "input()", targets=0)
raises(client.CompositeError, "SyntaxError", mec.execute, "a b c", targets=0)
mec.execute(
    "class Bomb:\n    def __reduce__(self):\n        return (int, ('boom',))\nbomb = Bomb()",
    targets=0,
)
raises(client.CompositeError, "cannot be rebuilt", mec.pull, "bomb", targets=0)

# wrong addresses
raises(client.NoController, "there is no FURL file", client.MultiEngineClient, "/nowhere/x.furl")
raises(
    client.NoController, "ipcluster -n 4 --cluster-id=another", client.MultiEngineClient, "another"
)
raises(client.SecurityError, "FURL", client.MultiEngineClient, "pb://what@ever")
raises(client.NoController, "127.0.0.1:1", client.MultiEngineClient, ("127.0.0.1", 1))
host, port = client.default_mec_address
assert client.MultiEngineClient((host, port)).get_ids() == mec.get_ids()
directory = os.path.join(os.environ["IPYTHONDIR"], "security")
with open(os.path.join(directory, "ipcontroller-engine.furl")) as file:
    engine_furl = file.read().strip()
raises(client.KernelError, "", client.MultiEngineClient, engine_furl)
wrong = engine_furl[:-4] + "aaaa"
raises(client.SecurityError, "", client.MultiEngineClient, wrong)
assert mec.execute("a = 1")

# an engine is killed while it works; the others and other clients go on
pids = [int(r["stdout"]) for r in mec.execute("import os; print(os.getpid())")]
other = client.MultiEngineClient()
pending = mec.execute("import time; time.sleep(60)", targets=[1, 2], block=False)
queued = mec.execute("b = 2", targets=1, block=False)
assert other.execute("c = 3", targets=[0, 3])
os.kill(pids[1], signal.SIGKILL)
never = raises(client.CompositeError, "NotStarted: engine 1", queued.get_result)
assert isinstance(never.exceptions[0], client.EngineDied)
other.interrupt(targets=2)
both = raises(client.CompositeError, "EngineDied: engine 1", pending.get_result)
assert [type(x) for x in both.exceptions] == [client.EngineDied, KeyboardInterrupt], both.exceptions
assert mec.get_ids() == [0, 2, 3] == other.get_ids()
assert mec.execute("d = 4")
raises(client.InvalidEngineID, "there is no engine 1", mec.execute, "d = 4", targets=1)
dying = mec.execute("import os; os._exit(0)", targets=2, block=False)
raises(client.CompositeError, "EngineDied: engine 2", dying.get_result)

# a wait can time out, and goes on when the controller is killed and started again
slow = mec.execute("import time; time.sleep(60)", targets=0, block=False)
raises(client.ResultNotCompleted, "still running", slow.get_result, timeout=0.2)
raises(client.NotAPendingResult, "barrier", mec.barrier, [3])
hasty = client.MultiEngineClient(reconnect_timeout=0)
with open(os.path.join(directory, "ipcontroller.lock")) as file:
    os.kill(int(file.read()), signal.SIGKILL)
raises(client.ConnectionError, "the controller is gone", hasty.get_ids)
assert mec.get_ids() == [0, 3]
assert other.execute("a = 1", targets=3)
limit = time.monotonic() + 10
while "away" in (status := other.queue_status(targets=0)[0][1]) and time.monotonic() < limit:
    time.sleep(0.02)
assert str(status["pending"]).startswith("execute"), status
other.interrupt(targets=0)
ended = raises(client.CompositeError, "KeyboardInterrupt", slow.get_result)

# it does not when the controller ends on purpose
slow = mec.execute("import time; time.sleep(60)", targets=0, block=False)
begun = time.monotonic()
other.kill(controller=True)
raises(client.ConnectionError, "the controller is gone", mec.get_ids)
raises((client.ConnectionError, client.CompositeError), "", slow.get_result)
assert time.monotonic() - begun < 10
print("every error was clear and soon")
