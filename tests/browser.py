"""Debian's Chromium without a window, for tests of pages."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SkipTest

from tests.testbeds.lib import Needs, missing

NEEDS: Final = (
    Needs("chromium", ("chromium",)),
    Needs("chromedriver", ("chromium-driver",)),
)

_FLAGS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"),
)


def why_not() -> str:
    """Why there can be no browser; empty if there can."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (the extra 'test')"
    lacking = [name for each in missing(NEEDS) for name in each.packages]
    return f"not installed: {', '.join(lacking)} (scripts/prepare-venv test)" if lacking else ""


@contextmanager
def browser(width: int = 1440, height: int = 1100) -> Iterator[Any]:
    """Run a browser with no history, which ends with everything that it has started and written.

    :raises SkipTest: if there is none.
    """
    if problem := why_not():
        raise SkipTest(problem)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    folder = tempfile.mkdtemp(prefix="ipython1-browser-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*_FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        service = Service(
            shutil.which("chromedriver"), env={**os.environ, "TMPDIR": folder, "HOME": folder}
        )
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.set_page_load_timeout(60)
            driver.set_script_timeout(60)
            yield driver
        finally:
            driver.quit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def look(driver: Any, width: int, height: int, dark: bool = False) -> None:
    """Give the page a size and a colour scheme; one below 600 pixels is a phone."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def frames_per_second(driver: Any, seconds: float) -> tuple[float, float]:
    """Measure how smoothly the page is drawn.

    :returns: frames per second, and the longest time between two of them in seconds.
    """
    count, longest = driver.execute_async_script(
        """
        const [seconds, done] = arguments;
        let count = 0, longest = 0, begun = null, before = null;
        requestAnimationFrame(function frame(now) {
          if (begun === null) begun = now; else { count += 1; longest = Math.max(longest, now - before); }
          before = now;
          if (now - begun < seconds * 1000) requestAnimationFrame(frame);
          else done([count / (now - begun) * 1000, longest / 1000]);
        });
        """,
        seconds,
    )
    return count, longest


def screenshot(driver: Any, path: Path) -> None:
    """Write a picture of the page, with few enough colours to be small where that is possible."""
    driver.save_screenshot(str(path))
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
