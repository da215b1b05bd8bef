"""Work that a monitor can show: a map with items that fail, short tasks, a busy engine, and a command that fails."""

from __future__ import annotations

import sys
import threading
import time

from ipython1.kernel import client


def simulate_orbit(number):
    import random
    import time

    if number % 29 == 5:
        raise ValueError(f"orbit {number} does not close")
    end = time.perf_counter() + random.uniform(0.3, 1.6)
    while time.perf_counter() < end:
        sum(range(100_000))
        time.sleep(0.01)
    return number


def fit_model(number):
    import time

    time.sleep(0.15 + number % 7 / 20)
    return number * number


def checksum(number):
    return number % 97


def in_background(function, count):
    def run():
        try:
            client.TaskClient().map(function, range(count))
        except Exception as problem:
            print(f"{function.__name__} has failed: {type(problem).__name__}", flush=True)

    threading.Thread(target=run, daemon=True).start()


def main(items):
    mec = client.MultiEngineClient()
    client.TaskClient().map(checksum, range(300))
    mec.execute("import time; survey = 'northern'", targets=[3])
    failing = mec.execute("catalogue.load(survey)", targets=[3], block=False)
    in_background(simulate_orbit, items)
    time.sleep(0.3)
    in_background(fit_model, 2 * items)
    mec.execute("time.sleep(3)", targets=[3], block=False)
    failing.exception()
    print("working", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
