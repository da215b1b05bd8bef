"""What works everywhere: running code, moving data, tasks, Ctrl-C, and the end of everything."""

from __future__ import annotations

import time

from ipython1.kernel import client


def main() -> None:
    mec = client.MultiEngineClient()
    tc = client.TaskClient()
    mec.wait_for_engines(2, timeout=30)
    assert mec.get_ids() == [0, 1], mec.get_ids()
    mec.execute("a = 20 + 1")
    assert mec.pull("a") == [21, 21]
    data = bytes(range(256)) * (8 * 2**20 // 256)
    mec.push({"data": data})
    assert mec.pull("data") == [data, data]
    assert list(tc.map(lambda x: x * x, range(20))) == [x * x for x in range(20)]

    sleeping = mec.execute("import time\nwhile True: time.sleep(0.01)", block=False)
    while not all(status["pending"] != "None" for _, status in mec.queue_status()):
        time.sleep(0.02)
    mec.interrupt()
    try:
        sleeping.get_result()
    except client.CompositeError as problem:
        assert "KeyboardInterrupt" in str(problem), problem
    else:
        raise AssertionError("it was not interrupted")
    mec.execute("b = 1")
    mec.kill(controller=True)
    print("all is well")


if __name__ == "__main__":
    main()
