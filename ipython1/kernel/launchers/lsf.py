"""IBM Spectrum LSF: a job array with one engine per element."""

from __future__ import annotations

import math
import re
from typing import ClassVar, Final

from ipython1.kernel.launchers.batch import BatchEngines
from ipython1.kernel.launchers.batchsystem import (
    BatchSystem,
    Command,
    End,
    TaskState,
    found_id,
    option,
    option_words,
)
from ipython1.kernel.launchers.clusterconfig import BatchOptions

_FIELDS: Final = "jobindex stat exit_reason pend_reason delimiter='|'"
_WAITING: Final = {"PEND": "", "WAIT": "", "PSUSP": "suspended while it was pending"}
_SYSTEM_ENDS: Final = (
    ("TERM_RUNLIMIT", "reached its time limit"),
    ("TERM_PREEMPT", "was preempted"),
    ("TERM_REQUEUE", "was requeued"),
    ("TERM_WINDOW", "was in a queue whose run window closed"),
    ("TERM_LOAD", "was on a host with too much load"),
)


class Lsf(BatchSystem):
    """IBM Spectrum LSF."""

    name = "lsf"
    first = 1
    programs: ClassVar[tuple[str, ...]] = ("bsub", "bjobs", "bkill")
    index = "$LSB_JOBINDEX"
    notices: ClassVar[tuple[str, ...]] = ("SIGURG",)
    notice_step = 60
    signs: ClassVar[tuple[tuple[str, str], ...]] = _SYSTEM_ENDS

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("bsub", "-J", f"{job}[1-{count}]", "-o", output),
            *option("-q", options.queue),
            *option("-P", options.account),
            *option("-W", options.time),
            *self._warning(options),
            *option_words(options.options),
        )

    def _warning(self, options: BatchOptions) -> Command:
        """Have SIGURG sent some minutes before the time limit; at the limit, LSF would begin with SIGUSR2."""
        if not options.time or not options.notice:
            return ()
        return ("-wa", "URG", "-wt", str(math.ceil(options.notice / self.notice_step)))

    def limit_seconds(self, time: str) -> float:
        # [H:]M, and perhaps the host by whose speed that is meant.
        match = re.fullmatch(r"(?:(\d+):)?(\d+)(?:/.*)?", time.strip())
        if match is None:
            return 0.0
        hours, minutes = (int(each or 0) for each in match.groups())
        return (hours * 60 + minutes) * 60.0

    def job_id(self, output: str) -> str:
        return found_id(r"Job <(\d+)>", output, "bsub")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-%J-%I.out"

    def query(self, job_id: str) -> Command:
        # Jobs that have ended are listed, too, for an hour or so.
        return ("bjobs", "-noheader", "-o", _FIELDS, job_id)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        found = {}
        for line in output.splitlines():
            index, state, ended, pending = (
                *(word.strip() for word in line.split("|", 3)),
                *[""] * 3,
            )[:4]
            if index.isdigit():
                found[int(index)] = _state(state, ended, pending)
        return found

    def gone(self, output: str) -> bool:
        return "is not found" in output or "No unfinished job" in output

    def cancel(self, job_id: str) -> Command:
        return ("bkill", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("bkill", f"{job_id}[{index}]")

    def cancel_name(self, job: str) -> Command:
        return ("bkill", "-J", job, "0")

    def signal(self, job_id: str, index: int, number: int) -> Command:
        return ("bkill", "-s", str(number), f"{job_id}[{index}]")


def _state(state: str, ended: str, pending: str) -> TaskState:
    if state in _WAITING:
        return TaskState(True, _WAITING[state] or pending.strip("-; "))
    if state == "DONE":
        return TaskState(False, "ended", end=End.ITSELF)
    if state == "ZOMBI":
        return TaskState(False, "lost its host", end=End.SYSTEM)
    if state != "EXIT":
        return TaskState(False)
    for sign, meaning in _SYSTEM_ENDS:
        if sign in ended:
            return TaskState(False, meaning, end=End.SYSTEM)
    if "TERM_OWNER" in ended or "TERM_ADMIN" in ended:
        return TaskState(False, "was killed with bkill", end=End.SOMEBODY)
    said = ended.strip("-. ").partition(": ")[2]
    return TaskState(False, f"failed ({said})" if said else "failed", end=End.ITSELF)


class LsfEngines(BatchEngines):
    """Engines started by LSF."""

    system: Lsf = Lsf()
