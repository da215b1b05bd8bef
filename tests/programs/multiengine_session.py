"""The tutorial session of the MultiEngine interface, with an assertion for every displayed value."""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

from ipython1.kernel import client


def shown(value: object) -> str:
    """The text that a prompt would display."""
    return repr(value)


def expect(value: object, text: str) -> None:
    assert shown(value) == text, f"\n--- expected\n{text}\n--- got\n{shown(value)}"


def silent(number: int, source: str, ids: Any = range(4)) -> str:
    return "<Results List>\n" + "\n".join(f"[{i}] In [{number}]: {source}" for i in ids)


def printing(number: int, source: str, outputs: dict[int, str]) -> str:
    return "<Results List>\n" + "\n\n".join(
        f"[{i}] In [{number}]: {source}\n[{i}] Out[{number}]: {text}" for i, text in outputs.items()
    )


mec = client.MultiEngineClient()
expect(mec.get_ids(), "[0, 1, 2, 3]")

# Running commands
expect(
    mec.execute('print("Hello World")'),
    printing(1, 'print("Hello World")', dict.fromkeys(range(4), "Hello World")),
)
mec.reset()
expect(mec.execute("a=5"), silent(2, "a=5"))
expect(mec.execute("b=10"), silent(3, "b=10"))
expect(mec.execute("c=a+b", targets=[0, 2]), silent(4, "c=a+b", (0, 2)))
expect(mec.execute("c=a-b", targets=[1, 3]), silent(4, "c=a-b", (1, 3)))
expect(mec.execute("print(c)"), printing(5, "print(c)", {0: "15", 1: "-5", 2: "15", 3: "-5"}))
result_dict = mec.execute("d=10; print(d)")
for i, r in enumerate(result_dict):
    assert r["input"] == {"translated": "d=10; print(d)", "raw": "d=10; print(d)"}, r
    assert (r["number"], r["id"], r["stdout"]) == (6, i, "10\n"), r
    assert r["duration"] >= 0 and "stderr" not in r and "result" not in r, r

# Non-blocking execution
expect(mec.execute("import time"), silent(7, "import time"))
pr = mec.execute("time.sleep(0.5)", block=False)
assert isinstance(pr, client.PendingResult)
expect(pr.get_result(), silent(8, "time.sleep(0.5)"))
pr = mec.execute("time.sleep(0.5)", block=False)
assert pr.get_result(block=False) is None
expect(pr.r, silent(9, "time.sleep(0.5)"))

mec.block = False
pr_list = [mec.execute("time.sleep(0.1)") for i in range(10)]
mec.barrier(pr_list)
assert all(pr.ready for pr in pr_list)
expect(pr_list[0].r, silent(10, "time.sleep(0.1)"))

# block and targets
mec.targets = [0, 2]
mec.block = False
pr = mec.execute("a=5")
expect(pr.r, silent(20, "a=5", (0, 2)))
mec.targets = "all"
mec.block = True
text = "b=10; print(b)"
out = mec.execute(text)
assert [r["number"] for r in out] == [21, 20, 21, 20] and all(r["stdout"] == "10\n" for r in out)

# push and pull
expect(mec.push({"a": 1.03234, "b": 3453}), "[None, None, None, None]")
expect(mec.pull("a"), "[1.03234, 1.03234, 1.03234, 1.03234]")
expect(mec.pull("b", targets=0), "[3453]")
expect(mec.pull(("a", "b")), "[[1.03234, 3453], [1.03234, 3453], [1.03234, 3453], [1.03234, 3453]]")
expect(mec.zip_pull(("a", "b")), "[(1.03234, 1.03234, 1.03234, 1.03234), (3453, 3453, 3453, 3453)]")
expect(mec.push({"c": "speed"}), "[None, None, None, None]")
assert [r["stdout"] for r in mec.execute("print(c)")] == ["speed\n"] * 4
mec.block = False
pr = mec.pull("a")
expect(pr.r, "[1.03234, 1.03234, 1.03234, 1.03234]")
mec.block = True


# functions
def f(x: float) -> float:
    return 2.0 * x**4


expect(mec.push_function({"f": f}), "[None, None, None, None]")
mec.execute("y = f(4.0)")
assert [r["stdout"] for r in mec.execute("print(y)")] == ["512.0\n"] * 4
assert [g(4.0) for g in mec.pull_function("f")] == [512.0] * 4

# calling functions
n = 100  # which the engines have, too
mec.scatter("n", range(4), flatten=True)


def with_n(*args: int, factor: int = 1) -> tuple[object, ...]:
    return (factor * n, *args)


expect(mec.apply(with_n), "[(0,), (1,), (2,), (3,)]")
expect(mec.apply(with_n, 7, factor=10), "[(0, 7), (10, 7), (20, 7), (30, 7)]")
mec.targets, mec.block = [3, 0], False
pr = mec.apply(with_n, 8)
assert isinstance(pr, client.PendingResult), pr
expect(pr.r, "[(3, 8), (0, 8)]")
mec.targets, mec.block = "all", True
try:
    mec.apply(lambda: 1 // n)
except client.CompositeError as e:
    assert str(e).startswith("one or more exceptions from call to method: apply\n[0:apply]: Zero")
    assert e.results == [1, 0, 0], e.results
else:
    raise AssertionError("1 // 0 did not raise")

# dictionary interface
mec["a"] = ["foo", "bar"]
expect(mec["a"], "[['foo', 'bar'], ['foo', 'bar'], ['foo', 'bar'], ['foo', 'bar']]")

# scatter and gather
expect(mec.scatter("a", range(16)), "[None, None, None, None]")
assert [r["stdout"] for r in mec.execute("print(a)")] == [
    "[0, 1, 2, 3]\n",
    "[4, 5, 6, 7]\n",
    "[8, 9, 10, 11]\n",
    "[12, 13, 14, 15]\n",
]
expect(mec.gather("a"), str(list(range(16))))

# map
serial_result = list(map(lambda x: x**10, range(32)))  # noqa: C417 (as the tutorial has it)
parallel_result = mec.map(lambda x: x**10, range(32))
assert serial_result == parallel_result
assert mec.mapper(dist="r", block=False).map(lambda x: x**10, range(32)).r == serial_result


@mec.parallel()
def tenth_power(x: int) -> int:
    return x**10


assert tenth_power(range(32)) == serial_result
expect(mec.scatter("x", range(64)), "[None, None, None, None]")
mec.execute("y = [i**10 for i in x]")
y = mec.gather("y")
assert y == [i**10 for i in range(64)]

# exceptions
MESSAGE = """one or more exceptions from call to method: execute
[0:execute]: ZeroDivisionError: division by zero
[1:execute]: ZeroDivisionError: division by zero
[2:execute]: ZeroDivisionError: division by zero
[3:execute]: ZeroDivisionError: division by zero"""
try:
    mec.execute("1/0")
except client.CompositeError as e:
    assert str(e) == MESSAGE, str(e)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        e.print_tracebacks()
    for i in range(4):
        assert f"[{i}:execute]:" in printed.getvalue()
    assert printed.getvalue().count("ZeroDivisionError: division by zero") >= 4
    assert "1/0" in printed.getvalue()
    try:
        e.raise_exception()
    except ZeroDivisionError as zero:
        assert str(zero) == "division by zero"
    else:
        raise AssertionError("raise_exception did not raise")
    try:
        e.raise_exception(4)
    except IndexError as wrong:
        assert "index 4" in str(wrong)
    else:
        raise AssertionError("there is no fifth exception")
else:
    raise AssertionError("1/0 did not raise")

mec.block = False
pr = mec.execute("1/0")
try:
    _ = pr.r
except client.CompositeError as e:
    assert str(e) == MESSAGE
else:
    raise AssertionError("1/0 did not raise")
mec.block = True

# the rest of the interface
assert [status for _, status in mec.queue_status()] == [{"pending": None, "queue": []}] * 4
mec.set_properties({"RAM": 2**33}, targets=0)
assert mec.get_properties() == [{"RAM": 2**33}, {}, {}, {}]
assert mec.has_properties("RAM") == [[True], [False], [False], [False]]
try:
    mec.get_properties("RAM")
except client.CompositeError as e:
    assert [type(x) for x in e.exceptions] == [client.InvalidProperty] * 3, e.exceptions
    assert e.results == [{"RAM": 2**33}]
mec.del_properties(["RAM"], targets=0)
mec.clear_properties()
assert mec.get_properties() == [{}] * 4
assert "y" in mec.keys(targets=1)[0]
mec.reset()
assert mec.keys() == [[]] * 4, mec.keys()

blocked = mec.execute("import time; time.sleep(60)", targets=1, block=False)
queued = mec.execute("a = 1", targets=1, block=False)
started = time.monotonic()
status = dict(mec.queue_status())
assert status[1]["queue"] == ["execute('a = 1')"], status
mec.clear_queue(targets=1)
try:
    _ = queued.r
except client.CompositeError as e:
    assert isinstance(e.exceptions[0], client.QueueCleared)
mec.interrupt(targets=1)
try:
    _ = blocked.r
except client.CompositeError as e:
    assert isinstance(e.exceptions[0], KeyboardInterrupt)
assert time.monotonic() - started < 10
assert mec.pull_serialized("__name__", targets=0)[0].size > 0
other = client.MultiEngineClient()
other["shared"] = 3
assert mec["shared"] == [3] * 4
forgotten = mec.execute("1", block=False)
mec.flush()
try:
    _ = forgotten.r
except client.InvalidDeferredID:
    pass
else:
    raise AssertionError("flush kept a result")
print("every value is as documented")
