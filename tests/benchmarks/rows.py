"""What is measured: each row's name, unit, and the value that is to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured.

    :ivar unit: ``ms``, ``s``, ``us``, ``MB`` and ``KB`` are better when they are lower, rates and ``%`` when they are
        higher.
    :ivar goal: the value to reach on two cores with everything on one host; None if there is none.
    :ivar along: what the row's ``x`` is, of a row that is measured at several points.
    """

    name: str
    part: str
    title: str
    unit: str
    goal: float | None = None
    along: str | None = None

    @property
    def higher_is_better(self) -> bool:
        return self.unit.endswith("/s") or self.unit == "%"


_ROWS: Final = (
    Row("import", "import", "import of ipython1.kernel.client", "ms", 250),
    Row("start", "startup", "start with four engines, until all are usable", "s", 0.45),
    Row("start_engines", "startup", "start, by engines", "s", along="engines"),
    Row("memory_engine", "startup", "memory of an idle engine", "MB", 25),
    Row("memory_controller", "startup", "memory of an idle controller", "MB"),
    Row("call_one", "calls", "blocking call on one engine", "ms", 0.6),
    Row("call_all", "calls", "blocking call on all four", "ms", 1.0),
    Row("get_ids", "calls", "get_ids()", "ms"),
    Row("status_busy", "calls", "queue_status() while an engine computes", "ms", 2),
    Row("interrupt", "calls", "interrupt of a computing engine, until its error is here", "ms"),
    Row("push_one", "data", "push an array to one engine", "MB/s", 4000),
    Row("pull_one", "data", "pull an array from one engine", "MB/s", 4000),
    Row("push_all", "data", "push an array to all four", "ms", 35),
    Row("scatter", "data", "scatter an array over four", "MB/s", 2000),
    Row("gather", "data", "gather it in one array", "MB/s", 2000),
    Row("push_frame", "data", "push a DataFrame", "MB/s"),
    Row("pull_frame", "data", "pull a DataFrame", "MB/s"),
    Row("push_list", "data", "push a list of 16 arrays", "MB/s"),
    Row("pull_list", "data", "pull a list of 16 arrays", "MB/s"),
    Row("push_bytes", "data", "push bytes", "MB/s"),
    Row("pull_bytes", "data", "pull bytes", "MB/s"),
    Row("task_result", "data", "array as the result of a task", "MB/s", 1000),
    Row("task_argument", "data", "array as the argument of a task", "MB/s", 1000),
    Row("task_result_bytes", "data", "bytes as the result of a task", "MB/s", 1000),
    Row("task_argument_bytes", "data", "bytes as the argument of a task", "MB/s", 1000),
    Row(
        "call_during_push",
        "data",
        "get_ids() while a thread pushes to all four, 90th percentile",
        "ms",
        7,
    ),
    Row("push_size", "data", "push, by size of the array", "MB/s", along="bytes"),
    Row("pull_size", "data", "pull, by size of the array", "MB/s", along="bytes"),
    Row("network_push_one", "data", "push an array to one engine, by network", "MB/s", 500),
    Row("network_pull_one", "data", "pull an array from one engine, by network", "MB/s", 500),
    Row("network_push_all", "data", "push an array to all four, by network", "ms"),
    Row("network_scatter", "data", "scatter an array over four, by network", "MB/s"),
    Row("network_gather", "data", "gather it in one array, by network", "MB/s"),
    Row(
        "network_call_during_push",
        "data",
        "get_ids() while a thread pushes to all four by network, 90th percentile",
        "ms",
        7,
    ),
    Row("tasks", "tasks", "no-op tasks one by one, every result fetched", "/s", 100_000),
    Row("tasks_function", "tasks", "no-op MapTask(function) one by one", "/s"),
    Row("tasks_different", "tasks", "different code one by one, one value pulled", "/s"),
    Row("task_one", "tasks", "a task and its result, idle", "ms", 0.7),
    Row("tasks_10ms", "tasks", "400 tasks of 10 ms on four engines (ideal 1 s)", "s", 1.05),
    Row("tasks_ragged", "tasks", "2,000 tasks of 0 to 50 ms, share of the ideal rate", "%"),
    Row("tasks_map", "tasks", "map over 200,000 short items", "/s"),
    Row("efficiency", "tasks", "share of the ideal rate, by length of a task", "%", along="ms"),
    Row("scale_register", "scale", "light engines registered", "s", 3, "engines"),
    Row("scale_broadcast", "scale", "call on all light engines", "ms", 60, "engines"),
    Row("scale_memory", "scale", "controller's memory for each of them", "KB", 60, "engines"),
    Row("scale_real_start", "scale", "start of 64 real engines", "s"),
    Row("scale_real_call", "scale", "call on all 64", "ms"),
    Row("scale_queue", "scale", "no-op tasks, by how many are queued", "/s", along="tasks"),
    Row("scale_results", "scale", "no-op tasks, by results that are kept", "/s", along="results"),
    Row("scale_clients", "scale", "call on one engine, by clients", "ms", along="clients"),
    Row("million", "million", "1,000,000 queued tasks, every result checked", "/s"),
    Row("million_before", "million", "controller's memory before", "MB"),
    Row("million_after", "million", "controller's memory after", "MB", 100),
    Row("million_client", "million", "client's memory with a million results", "MB"),
    Row("journal_safe", "journal", "one call until it is safe", "us"),
    Row("journal_safe_full", "journal", "the same, journal_sync = full", "us"),
    Row("journal_tasks", "journal", "tasks written with their results", "/s"),
    Row("journal_tasks_cpu", "journal", "processor time of one of them", "us"),
    Row("journal_tasks_full", "journal", "the same, journal_sync = full", "/s"),
    Row("journal_tasks_full_cpu", "journal", "processor time of one of them", "us"),
    Row("journal_open", "journal", "opening it with all results, all checked", "s"),
    Row("journal_memory", "journal", "memory for these", "MB"),
    Row("journal_fetch", "journal", "fetching 1,000 results", "ms"),
    Row("journal_clear", "journal", "clearing them all", "s"),
    Row("costs_tasks", "costs", "no-op tasks one by one, with the journal", "/s"),
    Row("costs_tasks_off", "costs", "without", "/s"),
    Row("costs_acknowledged", "costs", "execute(block=False), with the journal", "ms"),
    Row("costs_acknowledged_off", "costs", "without", "ms"),
    Row("costs_call", "costs", "blocking execute, with the journal", "ms"),
    Row("costs_call_off", "costs", "without", "ms"),
    Row("costs_task", "costs", "a task and its result, with the journal", "ms"),
    Row("costs_task_off", "costs", "without", "ms"),
    Row("costs_stopped", "costs", "tasks whose clients are stopped, run and kept", "/s"),
    Row("costs_memory", "costs", "controller's memory with results of dead clients", "MB"),
    Row("costs_journal", "costs", "size of the journal then", "MB"),
    Row("costs_restart", "costs", "from kill -9 of the controller until it serves", "s"),
    Row("costs_restart_memory", "costs", "memory of the new controller", "MB"),
    Row("watched_tasks_alone", "watched", "no-op tasks one by one, nobody looks", "/s"),
    Row("watched_tasks", "watched", "while somebody looks ten times in a second", "/s"),
    Row("watched_call_alone", "watched", "blocking execute, nobody looks", "ms"),
    Row("watched_call", "watched", "while somebody looks", "ms"),
    Row("watched_look", "watched", "a look while light engines run tasks", "ms", along="engines"),
    Row("watched_size", "watched", "its answer", "KB", along="engines"),
    Row("watched_whole", "watched", "a look at everything", "ms", along="engines"),
    Row(
        "watched_cpu", "watched", "of the controller, for ten looks a second", "%", along="engines"
    ),
    Row("watched_light_alone", "watched", "tasks, nobody looks", "/s", along="engines"),
    Row("watched_light", "watched", "while somebody looks", "/s", along="engines"),
    Row("codec_write", "codec", "writing a message", "us", along="bytes"),
    Row("codec_read", "codec", "reading it", "us", along="bytes"),
    Row("codec_round_trip", "codec", "there and back over TLS, one process", "us", along="bytes"),
    Row("stock_write", "codec", "writing a message, Foolscap's own codec", "us", along="bytes"),
    Row("stock_read", "codec", "reading it", "us", along="bytes"),
    Row("stock_round_trip", "codec", "a call there and back over TLS", "us", along="bytes"),
)

ROWS: Final[Mapping[str, Row]] = {row.name: row for row in _ROWS}

PARTS: Final = ("import", "startup", "calls", "data", "tasks", "scale")
"""What a run measures unless it is told otherwise."""

EXTRA_PARTS: Final = ("million", "journal", "costs", "watched", "codec")
"""Slow or inner parts, which run only when they are named."""

SHARED_PARTS: Final = ("startup", "calls", "data", "tasks")
"""The parts in which peers take part, too."""
