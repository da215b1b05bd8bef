"""The dialects of Slurm and Grid Engine: how to submit, query and cancel a job array, as pure text.

The job script itself is passed on standard input; options of the array go on the command line, where they override the
directives in a user's own script.
"""

from __future__ import annotations

import math
import re
from typing import ClassVar

from ipython1.core.texts import expand_ids
from ipython1.kernel.launchers.batchsystem import (
    BatchSystem,
    Command,
    End,
    TaskState,
    found_id,
    option,
    option_words,
    seconds_of,
    table_states,
)
from ipython1.kernel.launchers.clusterconfig import BatchOptions


class Slurm(BatchSystem):
    """Slurm."""

    name = "slurm"
    first = 0
    programs: ClassVar[tuple[str, ...]] = ("sbatch", "squeue", "scancel")
    index = "$SLURM_ARRAY_TASK_ID"
    # It means nothing to programs that know nothing of it, and hardly anybody uses it.
    notices: ClassVar[tuple[str, ...]] = ("SIGURG",)
    signs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("DUE TO TIME LIMIT", "reached its time limit"),
        ("DUE TO PREEMPTION", "was preempted"),
        ("DUE TO NODE", "lost its node"),
    )

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("sbatch", "--parsable", f"--job-name={job}", f"--array=0-{count - 1}"),
            f"--output={output}",
            *option("--partition=", options.queue),
            *option("--account=", options.account),
            *option("--time=", options.time),
            *(() if options.resubmit else ("--no-requeue",)),
            *((f"--signal=B:URG@{math.ceil(options.notice)}",) if options.notice else ()),
            *option_words(options.options),
        )

    def limit_seconds(self, time: str) -> float:
        # Minutes, or M:S, H:M:S, D-H, D-H:M, D-H:M:S; the words for no limit are none of these.
        match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time.strip())
        if match is None:
            return 0.0
        days, first, second, third = (int(each or 0) for each in match.groups())
        if match.group(1) is None and match.group(4) is None:  # it begins with minutes
            return first * 60.0 + second
        return ((days * 24 + first) * 60 + second) * 60.0 + third

    def job_id(self, output: str) -> str:
        return found_id(r"^(\d+)(?:;.*)?$", output, "sbatch")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-%A-%a.out"

    def query(self, job_id: str) -> Command:
        # Those that have ended are known for some minutes.
        return (
            *("squeue", "--noheader", "--array", "--states=all"),
            *(f"--jobs={job_id}", "--format=%K|%T|%r"),
        )

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        return table_states(
            output,
            ends={
                "COMPLETED": (End.ITSELF, "ended"),
                "FAILED": (End.ITSELF, "failed"),
                "OUT_OF_MEMORY": (
                    End.ITSELF,
                    "was killed, as it used more memory than its job had",
                ),
                "CANCELLED": (End.SOMEBODY, "was cancelled"),
                "DEADLINE": (End.SOMEBODY, "reached its deadline"),
                "TIMEOUT": (End.SYSTEM, "reached its time limit"),
                "PREEMPTED": (End.SYSTEM, "was preempted"),
                "NODE_FAIL": (End.SYSTEM, "lost its node"),
                "BOOT_FAIL": (End.SYSTEM, "had a node that did not boot"),
            },
            waiting=(
                *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"),
                *("SPECIAL_EXIT", "RESV_DEL_HOLD"),
            ),
        )

    def limit_query(self) -> Command:
        return ("scontrol", "show", "config")

    def array_limit(self, output: str) -> int:
        # The highest index is one less than this, and the lowest is 0.
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.M)
        return int(match.group(1)) if match else 0

    def gone(self, output: str) -> bool:
        return "Invalid job id" in output

    def cancel(self, job_id: str) -> Command:
        return ("scancel", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("scancel", f"{job_id}_{index}")

    def cancel_name(self, job: str) -> Command:
        return ("scancel", f"--name={job}")

    def signal(self, job_id: str, index: int, number: int) -> Command:
        return ("scancel", f"--signal={number}", "--full", f"{job_id}_{index}")


class Sge(BatchSystem):
    """Grid Engine in all its variants."""

    name = "sge"
    first = 1
    programs: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel")
    index = "$SGE_TASK_ID"
    notices: ClassVar[tuple[str, ...]] = ("SIGUSR1",)

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("qsub", "-terse", "-N", job, "-t", f"1-{count}", "-o", output, "-j", "y"),
            *("-S", "/bin/sh", "-cwd", "-V"),
            *option("-q", options.queue),
            *option("-P", options.account),
            *option("-l", options.time and f"h_rt={options.time}{self._soft_limit(options)}"),
            *option_words(options.options),
        )

    @staticmethod
    def _soft_limit(options: BatchOptions) -> str:
        """The limit at which SIGUSR1 is sent."""
        seconds = seconds_of(options.time)
        if not seconds or not options.notice:
            return ""
        return f",s_rt={math.ceil(max(seconds - options.notice, seconds / 2))}"

    def job_id(self, output: str) -> str:
        return found_id(r"^(\d+)(?:\.\d+-\d+:\d+)?$", output, "qsub")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-$JOB_ID-$TASK_ID.out"

    def query(self, job_id: str) -> Command:
        return ("qstat",)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        found = {}
        for line in output.splitlines():
            words = line.split()
            # job-ID prior name user state date time [queue] slots [tasks]
            if len(words) < 8 or words[0] != job_id:
                continue
            state = words[4]
            waiting = "q" in state or "h" in state
            tasks = words[-1] if not waiting or len(words) > 8 else "1"
            for index in expand_ids(tasks):
                found[index] = TaskState(waiting, state if waiting else "", "E" in state)
        return found

    def explain(self, job_id: str) -> Command:
        return ("qstat", "-j", job_id)

    def explanation(self, output: str, index: int) -> str:
        match = re.search(rf"^error reason\s+{index}:\s*(.+)$", output, re.M)
        # The time and the process come first.
        return re.sub(r"^\S+ \S+ \[\d+:\d+\]: (?:error: )?", "", match.group(1)) if match else ""

    def limit_query(self) -> Command:
        return ("qconf", "-sconf")

    def array_limit(self, output: str) -> int:
        match = re.search(r"^max_aj_tasks\s+(\d+)", output, re.M)
        return int(match.group(1)) if match else 0

    def cancel(self, job_id: str) -> Command:
        return ("qdel", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("qdel", f"{job_id}.{index}")

    def cancel_name(self, job: str) -> Command:
        return ("qdel", job)
