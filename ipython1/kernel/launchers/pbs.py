"""PBS: a job array with one engine per subjob, in PBS Professional, OpenPBS and Torque."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
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

_ENDED: Final = ("C", "F", "X")
"""C is Torque's, F PBS Professional's, X that of subjobs.  With E, the output is still being delivered."""

_WAITING: Final = {
    "Q": "",
    "H": "held",
    "M": "moved to another server",
    "S": "suspended",
    "T": "being moved",
    "U": "suspended while its host is in use",
    "W": "waiting for its start time",
}
_KILLED_AT_LIMIT: Final = "-29"
_NEVER_RUNS: Final = "too many failed attempts"


class Pbs(BatchSystem):
    """PBS Professional and OpenPBS."""

    name = "pbs"
    first = 0
    programs: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel")
    index = "${PBS_ARRAY_INDEX:-0}"
    preamble: ClassVar[tuple[str, ...]] = ('cd "$PBS_O_WORKDIR" || exit 1',)
    id_in_output = False
    signs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("job killed: walltime", "reached its time limit"),
    )

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
        return found_id(r"^(\d+(?:\[\])?(?:\.\S+)?)$", output, "qsub")

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
            match = re.match(r"\d+(?:\[(\d*)\])?", name)
            if match is not None and match.group(1) != "":
                found[int(match.group(1) or 0)] = _state(attributes)
        return found

    def explain(self, job_id: str) -> Command:
        return self.query(job_id)

    def explanation(self, output: str, index: int) -> str:
        state = self.states("", output).get(index)
        return state.reason if state is not None else ""

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


def _state(attributes: Mapping[str, str]) -> TaskState:
    state, comment = attributes.get("job_state", ""), attributes.get("comment", "")
    if state in _ENDED:
        if attributes.get("Exit_status") == _KILLED_AT_LIMIT:
            return TaskState(False, "reached its time limit", end=End.SYSTEM)
        return TaskState(False, "ended", end=End.ITSELF)
    if state not in _WAITING:
        return TaskState(False)
    return TaskState(True, comment or _WAITING[state], state == "H" and _NEVER_RUNS in comment)


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

    system: Pbs = Pbs()


class TorqueEngines(BatchEngines):
    """Engines started by Torque."""

    system: Torque = Torque()
