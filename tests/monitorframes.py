"""How smoothly the monitor's page is drawn with many engines: light ones, which are as busy as a client keeps them.

::

    python -m tests.monitorframes --engines 1000 --seconds 10

It prints frames per second in Chromium, what the monitor's process uses, and how long calls to all engines take while
the page is open, and before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from ipython1.testing.processes import private_environ
from tests.browser import browser, frames_per_second, look, screenshot
from tests.lightengines import CODE, controller, light_engines

MONITOR = (sys.executable, "-m", "ipython1.kernel.scripts.ipcluster", "monitor", "--no-browser")


def call_times(mec: object, seconds: float) -> list[float]:
    """Call all engines again and again; how long each call took."""
    found = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        mec.execute(CODE)  # type: ignore[attr-defined]
        found.append(time.perf_counter() - begun)
    return found


def measure(engines: int, processes: int, seconds: float, picture: Path | None) -> None:
    """Print what is found."""
    import psutil

    from ipython1.kernel import client

    with controller() as (directory, _), light_engines(directory, engines, processes) as lights:
        with closing(
            client.MultiEngineClient(str(directory / "security" / "ipcontroller-mec.furl"))
        ) as mec:
            for each in lights:
                each.go()
            for each in lights:
                each.expect("registered")
            mec.execute(CODE)
            before = call_times(mec, seconds / 2)
            monitor = subprocess.Popen(
                MONITOR, env=private_environ(directory), stdout=subprocess.PIPE, text=True
            )
            try:
                assert monitor.stdout is not None
                url = monitor.stdout.readline().split()[-1]
                with browser() as driver:
                    look(driver, 1440, 1400)
                    driver.get(url)
                    while f"of {engines:,} busy" not in driver.execute_script(
                        "return document.body.innerText"
                    ):
                        time.sleep(0.2)
                    calls: list[float] = []
                    thread = threading.Thread(
                        target=lambda: calls.extend(call_times(mec, seconds)), daemon=True
                    )
                    used = sum(psutil.Process(monitor.pid).cpu_times()[:2])
                    thread.start()
                    frames, longest = frames_per_second(driver, seconds)
                    used = sum(psutil.Process(monitor.pid).cpu_times()[:2]) - used
                    thread.join()
                    if picture is not None:
                        screenshot(driver, picture)
            finally:
                monitor.terminate()
                monitor.wait()
                monitor.stdout.close()
    print(f"{engines} engines: {frames:.1f} frames/s, the longest took {longest * 1000:.0f} ms")
    print(f"the monitor's process used {100 * used / seconds:.0f} % of a processor")
    print(
        f"a call to all engines took {1000 * statistics.median(before):.0f} ms without the page, "
        f"{1000 * statistics.median(calls):.0f} ms with it"
    )


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--picture", type=Path, help="write a picture of the page to this file")
    given = parser.parse_args()
    measure(given.engines, given.processes, given.seconds, given.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
