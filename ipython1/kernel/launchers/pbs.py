"""PBS: a job array with one engine per subjob, in PBS Professional, OpenPBS and Torque."""

from __future__ import annotations

import re
import shlex
from typing import Final

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

# B is for arrays that have begun; C for completed jobs of Torque.
_ENDED: Final = ("C", "E", "F", "X", "B")
_WAITING: Final = {
    "Q": "",
    "H": "held",
    "M": "moved to another server",
    "S": "suspended",
    "T": "being moved",
    "U": "suspended while its host is in use",
    "W": "waiting for its start time",
}
_NEVER_RUNS: Final = "too many failed attempts"


class Pbs(BatchSystem):
    """PBS Professional and OpenPBS."""

    name = "pbs"
    first = 0
    programs = ("qsub", "qstat", "qdel")
    index = "${PBS_ARRAY_INDEX:-0}"
    preamble = ('cd "$PBS_O_WORKDIR" || exit 1',)
    id_in_output = False

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("qsub", "-N", job, *self._array(count, output)),
            *("-j", "oe", "-S", "/bin/sh", "-V"),
            *option("-q", options.queue),
            *option("-A", options.account),
            *option("-l", options.time and f"walltime={options.time}"),
            *option_words(options.options),
        )

    def _array(self, count: int, output: str) -> Command:
        if count == 1:
            # PBS rejects an array of one subjob, and replaces nothing in the path of a plain job.
            return ("-o", output.replace("^array_index^", "0"))
        return ("-J", f"0-{count - 1}", "-o", output)

    def job_id(self, output: str) -> str:
        return found_in(r"^(\d+(?:\[\])?(?:\.\S+)?)$", output, "qsub")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-^array_index^.out"

    def output_name(self, stem: str, job_id: str, index: int) -> str:
        return f"{stem}-{index}.out"

    def query(self, job_id: str) -> Command:
        return ("qstat", "-f", "-t", job_id)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        found = {}
        # Long values go on in lines that begin with a tab.
        for text in output.replace("\n\t", "").split("Job Id:")[1:]:
            name, *lines = text.strip().splitlines()
            attributes = dict(line.strip().partition(" = ")[::2] for line in lines)
            state = attributes.get("job_state", "")
            if state in _ENDED:
                continue
            match = re.match(r"\d+(?:\[(\d*)\])?", name)
            if match is None or match.group(1) == "":
                continue
            waiting = state in _WAITING
            reason = attributes.get("comment") or _WAITING.get(state, "")
            error = state == "H" and _NEVER_RUNS in reason
            found[int(match.group(1) or 0)] = TaskState(waiting, reason if waiting else "", error)
        return found

    def gone(self, output: str) -> bool:
        return "Unknown Job" in output or "has finished" in output

    def cancel(self, job_id: str) -> Command:
        return ("qdel", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("qdel", job_id.replace("[]", f"[{index}]"))

    def cancel_name(self, job: str) -> Command:
        return ("sh", "-c", f"qselect -N {shlex.quote(job)} | xargs -r qdel")

    def signal(self, job_id: str, index: int, number: int) -> Command:
        return ("qsig", "-s", str(number), job_id.replace("[]", f"[{index}]"))


class Torque(Pbs):
    """Torque, whose arrays have other options and names than those of PBS Professional."""

    name = "torque"
    index = "${PBS_ARRAYID:-0}"
    name_limit = 15

    def _array(self, count: int, output: str) -> Command:
        return ("-t", f"0-{count - 1}", "-o", output)

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}.out"

    def output_name(self, stem: str, job_id: str, index: int) -> str:
        # It appends the index itself.
        return f"{stem}.out-{index}"


class PbsEngines(BatchEngines):
    """Engines started by PBS."""

    system = Pbs()


class TorqueEngines(BatchEngines):
    """Engines started by Torque."""

    system = Torque()
