"""IBM Spectrum LSF: a job array with one engine per element."""

from __future__ import annotations

from ipython1.kernel.launchers.batch import BatchEngines
from ipython1.kernel.launchers.batchsystems import (
    BatchSystem,
    Command,
    TaskState,
    found_in,
    option,
    option_words,
)
from ipython1.kernel.launchers.clusterconfig import BatchOptions

_FIELDS = "jobindex stat exit_reason pend_reason delimiter='|'"
_WAITING = {
    "PEND": "",
    "WAIT": "",
    "PSUSP": "suspended while it was pending",
}
_ENDED = ("DONE", "EXIT", "ZOMBI")


class Lsf(BatchSystem):
    """IBM Spectrum LSF."""

    name = "lsf"
    first = 1
    programs = ("bsub", "bjobs", "bkill")
    index = "$LSB_JOBINDEX"

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        # At its time limit, LSF would first send SIGUSR2; have it send SIGTERM a minute before that.
        warning = ("-W", options.time, "-wt", "1", "-wa", "TERM") if options.time else ()
        return (
            *("bsub", "-J", f"{job}[1-{count}]", "-o", output),
            *option("-q", options.queue),
            *option("-P", options.account),
            *warning,
            *option_words(options.options),
        )

    def job_id(self, output: str) -> str:
        return found_in(r"Job <(\d+)>", output, "bsub")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-%J-%I.out"

    def query(self, job_id: str) -> Command:
        return ("bjobs", "-noheader", "-o", _FIELDS, job_id)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        found = {}
        for line in output.splitlines():
            index, state, _, pending = (*(word.strip() for word in line.split("|", 3)), *[""] * 4)[
                :4
            ]
            if not index.isdigit() or state in _ENDED:
                continue
            waiting = state in _WAITING
            reason = _WAITING.get(state) or pending.strip("-; ")
            found[int(index)] = TaskState(waiting, reason if waiting else "")
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


class LsfEngines(BatchEngines):
    """Engines started by LSF."""

    system = Lsf()
