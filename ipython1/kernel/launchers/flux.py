"""Flux: one job per engine, all submitted by one command, and found again by their common name.

``flux submit`` runs a program and takes no script, so the job script is a file that every job runs.
"""

from __future__ import annotations

import math
import re
from typing import ClassVar, Final

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batch import BatchEngines
from ipython1.kernel.launchers.batchsystem import (
    BatchSystem,
    Command,
    End,
    TaskState,
    option,
    option_words,
)
from ipython1.kernel.launchers.clusterconfig import BatchOptions

_FORMAT: Final = (
    "{name}|{status}|{state}|{urgency}|{dependencies}|{exception.type}|"
    "{annotations.sched.reason_pending}"
)

_MOST_JOBS: Final = ("--max-entries=10000",)
"""How many jobs of the user Flux looks through; by default, 1,000."""

_ENDS: Final = {
    "COMPLETED": (End.ITSELF, "ended"),
    "FAILED": (End.ITSELF, "failed"),
    "CANCELED": (End.SOMEBODY, "was cancelled"),
    "TIMEOUT": (End.SYSTEM, "reached its time limit"),
}


class Flux(BatchSystem):
    """Flux."""

    name = "flux"
    first = 0
    programs: ClassVar[tuple[str, ...]] = ("flux",)
    index = "$FLUX_JOB_CC"
    script_in_file = True
    by_name = True
    one_by_one = True
    id_in_output = False
    notices: ClassVar[tuple[str, ...]] = ("SIGURG",)

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("flux", "submit", f"--cc=0-{count - 1}", f"--job-name={job}-{{cc}}"),
            f"--output={output}",
            *option("--queue=", options.queue),
            *option("--bank=", options.account),
            *option("--time-limit=", options.time),
            *self._warning(options),
            *option_words(options.options),
        )

    @staticmethod
    def _warning(options: BatchOptions) -> Command:
        """Have SIGURG sent some seconds before the time limit."""
        if not options.time or not options.notice:
            return ()
        return (f"--signal=URG@{math.ceil(options.notice)}s",)

    def limit_seconds(self, time: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|d)?", time.strip())
        if match is None:
            return 0.0
        units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
        return float(match.group(1)) * units[match.group(2) or "s"]

    def submission(
        self, job: str, count: int, output: str, options: BatchOptions, script: str, path: str
    ) -> tuple[Command, str]:
        if "{" in path or "{" in output.replace("{cc}", ""):
            raise ClusterError(f"Flux would replace the braces in the path {path}")
        return (*self.submit(job, count, output, options), "/bin/sh", path), ""

    def job_id(self, output: str) -> str:
        raise AssertionError("jobs of Flux are found by their names")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-{{cc}}.out"

    def output_name(self, stem: str, job_id: str, index: int) -> str:
        return f"{stem}-{index}.out"

    def query(self, job_id: str) -> Command:
        return ("flux", "pgrep", "-a", "-n", *_MOST_JOBS, f"--format={_FORMAT}", _all_of(job_id))

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        found = {}
        for line in output.splitlines():
            match = re.match(rf"{re.escape(job_id)}-(\d+)\|", line)
            if match is None:
                continue
            fields = (*line.split("|", 6), *[""] * 6)[1:7]
            found[int(match.group(1))] = _state(*fields)
        return found

    def gone(self, output: str) -> bool:
        # It ends with status 1, and says nothing, if no job matches.
        return not output.strip()

    def cancel(self, job_id: str) -> Command:
        return ("flux", "pkill", *_MOST_JOBS, _all_of(job_id))

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("flux", "pkill", *_MOST_JOBS, _one_of(job_id, index))

    def cancel_name(self, job: str) -> Command:
        return self.cancel(job)

    def signal(self, job_id: str, index: int, number: int) -> Command:
        find = " ".join(("flux pgrep", *_MOST_JOBS, f"'{_one_of(job_id, index)}'"))
        return ("sh", "-c", f"flux job kill --signal={number} $({find})")


def _state(
    status: str, state: str, urgency: str, dependencies: str, exception: str, reason: str
) -> TaskState:
    if status in _ENDS:
        end, what = _ENDS[status]
        if exception == "node-failure":
            end, what = End.SYSTEM, "lost its node"
        return TaskState(False, what, end=end)
    if status != "PENDING":
        return TaskState(False)
    if state == "DEPEND":
        return TaskState(True, f"depends on {dependencies}")
    return TaskState(True, "held" if urgency == "0" else reason.strip())


def _all_of(job: str) -> str:
    return f"name:^{re.escape(job)}-[0-9]+$"


def _one_of(job: str, index: int) -> str:
    return f"name:^{re.escape(job)}-{index}$"


class FluxEngines(BatchEngines):
    """Engines started by Flux."""

    system: Flux = Flux()
