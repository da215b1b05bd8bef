"""The monitor's numbers for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ipython1.kernel.watching.watcher import Watcher

MISSING = (
    "The package prometheus_client is not installed where the monitor runs; install it there with:\n"
    "    pip install 'ipython1[monitor]'\n"
)


class NotInstalled(Exception):
    """``prometheus_client`` is missing; :data:`MISSING` says what to do."""


def metrics_page(watcher: Watcher) -> tuple[str, bytes]:
    """Everything in Prometheus' format.

    :returns: the content type, and the text.
    :raises NotInstalled: if ``prometheus_client`` is missing.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    except ImportError:
        raise NotInstalled(MISSING) from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(watcher))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Collector:
    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def collect(self) -> Iterator[Any]:
        """What ``prometheus_client`` asks for."""
        from prometheus_client.core import GaugeMetricFamily

        up = self._watcher.away is None
        yield GaugeMetricFamily(
            "ipython1_up", "Whether the monitor reaches the controller.", float(up)
        )
        # Old numbers would look like current ones.
        if up and self._watcher.picture.latest is not None:
            yield from self._engines()
            yield from self._tasks()
            yield from self._controller()

    def _engines(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        engines = [each for _, each in sorted(self._watcher.picture.engines.items())]
        states = Counter(
            "away" if each.away else "idle" if each.doing == "idle" else "busy" for each in engines
        )
        family = GaugeMetricFamily("ipython1_engines", "Engines by state.", labels=["state"])
        for state in ("idle", "busy", "away"):
            family.add_metric([state], states[state])
        yield family
        yield GaugeMetricFamily(
            "ipython1_queued_commands",
            "Commands that wait for engines.",
            sum(each.queued for each in engines),
        )
        columns = (
            ("cpu_percent", "What an engine uses, in percent of one processor.", "cpu"),
            ("memory_bytes", "Resident memory of an engine.", "memory"),
            ("queued_commands", "Commands that wait for an engine.", "queued"),
            ("tasks", "Tasks that an engine has.", "tasks"),
        )
        for name, text, attribute in columns:
            family = GaugeMetricFamily(f"ipython1_engine_{name}", text, labels=["engine", "host"])
            for each in engines:
                value = getattr(each, attribute)
                if value is not None:
                    family.add_metric([str(each.id), each.host], value)
            yield family

    def _tasks(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        tasks = self._watcher.picture.tasks
        family = GaugeMetricFamily("ipython1_tasks", "Tasks that are not done.", labels=["state"])
        family.add_metric(["scheduled"], tasks.scheduled)
        family.add_metric(["pending"], tasks.pending)
        yield family
        done = CounterMetricFamily("ipython1_tasks_done", "Tasks that are done.", labels=["state"])
        done.add_metric(["succeeded"], tasks.succeeded)
        done.add_metric(["failed"], tasks.failed)
        yield done
        yield GaugeMetricFamily(
            "ipython1_tasks_per_second",
            "Tasks done in a second, of the last few seconds.",
            tasks.rate,
        )

    def _controller(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        latest, traffic = self._watcher.picture.latest, self._watcher.picture.traffic
        assert latest is not None
        for name, text, value in (
            ("clients", "Connected clients.", latest.clients),
            ("received_bytes_per_second", "What the controller receives.", traffic.received),
            ("sent_bytes_per_second", "What the controller sends.", traffic.sent),
            ("controller_delay_seconds", "By how much the controller is late.", traffic.delay),
            ("controller_start_time_seconds", "When the controller was started.", latest.started),
        ):
            yield GaugeMetricFamily(f"ipython1_{name}", text, value)
