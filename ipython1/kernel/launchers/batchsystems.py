"""The dialects of batch systems: how to submit, query and cancel a job array.  Pure text, no processes.

The job script itself is passed on standard input where the system accepts that; options of the array go on the command
line, where they override the directives in a user's own script.  Systems with more to say have modules of their own.
"""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.clusterconfig import BatchOptions

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskState:
    """An engine's state in the batch system.

    :ivar waiting: it is in the queue and not running yet.
    :ivar reason: why it is waiting, in the batch system's words.
    :ivar error: the batch system holds it because it failed.
    """

    waiting: bool
    reason: str = ""
    error: bool = False


class BatchSystem(ABC):
    """A batch system.

    :cvar name: the launcher's name.
    :cvar first: the lowest index of a job array.
    :cvar programs: the programs that must be installed.
    """

    name: ClassVar[str]
    first: ClassVar[int]
    programs: ClassVar[Command]
    index: ClassVar[str]
    """The shell expression for the index of the array member."""
    preamble: ClassVar[tuple[str, ...]] = ()
    script_in_file: ClassVar[bool] = False
    """Whether the job script has to be a file on the nodes, instead of standard input of the submission."""
    by_name: ClassVar[bool] = False
    """Whether the commands take the array's name, because the system gives it no id."""
    one_by_one: ClassVar[bool] = False
    """Whether a submission that fails may have submitted some of the members."""
    id_in_output: ClassVar[bool] = True
    """Whether the names of output files differ between arrays."""
    name_limit: ClassVar[int] = 60
    """How many characters a job's name may have."""

    def check(self, options: BatchOptions) -> None:
        """Check what the user asked for, as far as that is possible before the submission.

        :raises ClusterError: if this batch system has no such thing.
        """
        return

    @abstractmethod
    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        """Return the command that submits an array, without the file that holds its script.

        :param job: the name of the array.
        :param count: the number of members, 1 or more.
        :param output: the pattern for output files, from :meth:`output_pattern`.
        :param options: the queue, the account and whatever else the user asked for.
        """

    def submission(
        self, job: str, count: int, output: str, options: BatchOptions, script: str, path: str
    ) -> tuple[Command, str]:
        """Return the command that submits an array, and its standard input.

        :param script: the job script.
        :param path: the file that holds the script, if it has to be in one.
        """
        return self.submit(job, count, output, options), script

    @abstractmethod
    def job_id(self, output: str) -> str:
        """Find the job id in the output of the submission.

        :returns: the id in the form that the other commands take.
        :raises ClusterError: if there is none.
        """

    @abstractmethod
    def output_pattern(self, directory: str, stem: str) -> str:
        """Return the pattern for the members' output files, in the batch system's syntax.

        :param directory: the absolute path of the directory for them.
        :param stem: the beginning of their names.
        """

    def output_name(self, stem: str, job_id: str, index: int) -> str:
        """Return the name of a member's output file according to :meth:`output_pattern`.

        :param index: the member's index in the array, from ``first`` up.
        """
        return f"{stem}-{job_id}-{index}.out"

    @abstractmethod
    def query(self, job_id: str) -> Command:
        """Return the command that shows the states of an array's members."""

    @abstractmethod
    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        """Return the states by index of the members that have not ended.

        :param output: what the command of :meth:`query` printed.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> Command:
        """Return the command that cancels an array."""

    @abstractmethod
    def cancel_member(self, job_id: str, index: int) -> Command:
        """Return the command that cancels one member."""

    @abstractmethod
    def cancel_name(self, job: str) -> Command:
        """Return the command that cancels an array by name, for the time before its id is known."""

    def signal(self, job_id: str, index: int, number: int) -> Command | None:
        """Return the command that sends a signal to a member; None if the batch system cannot.

        :param number: the number of the signal.
        """
        return None

    def gone(self, output: str) -> bool:
        """Return whether the output of a failed query means that the job has ended."""
        return False


def found_in(pattern: str, output: str, name: str) -> str:
    """Return what the first group of a pattern matches in what a submission printed.

    :raises ClusterError: if it does not match.
    """
    match = re.search(pattern, output, re.M)
    if match is None:
        said = " ".join(output.split())[:300] or "nothing"
        raise ClusterError(f"{name} did not print a job id; its output: {said}")
    return match.group(1)


def _table_states(
    output: str, *, ended: tuple[str, ...], waiting: tuple[str, ...]
) -> dict[int, TaskState]:
    """Read the states from a table whose lines are ``index|state|reason``."""
    found = {}
    for line in output.splitlines():
        index, state, reason = (*(word.strip() for word in line.split("|")), "", "")[:3]
        if index.isdigit() and state not in ended:
            is_waiting = state in waiting
            found[int(index)] = TaskState(is_waiting, reason if is_waiting else "")
    return found


class Slurm(BatchSystem):
    """Slurm."""

    name = "slurm"
    first = 0
    programs = ("sbatch", "squeue", "scancel")
    index = "$SLURM_ARRAY_TASK_ID"

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("sbatch", "--parsable", f"--job-name={job}", f"--array=0-{count - 1}"),
            f"--output={output}",
            *option("--partition=", options.queue),
            *option("--account=", options.account),
            *option("--time=", options.time),
            *option_words(options.options),
        )

    def job_id(self, output: str) -> str:
        return found_in(r"^(\d+)(?:;.*)?$", output, "sbatch")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-%A-%a.out"

    def query(self, job_id: str) -> Command:
        return ("squeue", "--noheader", "--array", f"--jobs={job_id}", "--format=%K|%T|%r")

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        return _table_states(
            output,
            ended=("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"),
            waiting=("PENDING", "CONFIGURING", "REQUEUED"),
        )

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
    programs = ("qsub", "qstat", "qdel")
    index = "$SGE_TASK_ID"

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("qsub", "-terse", "-N", job, "-t", f"1-{count}", "-o", output, "-j", "y"),
            *("-S", "/bin/sh", "-cwd", "-V"),
            *option("-q", options.queue),
            *option("-P", options.account),
            *option("-l", options.time and f"h_rt={options.time}"),
            *option_words(options.options),
        )

    def job_id(self, output: str) -> str:
        return found_in(r"^(\d+)(?:\.\d+-\d+:\d+)?$", output, "qsub")

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
            for index in _ranges(tasks):
                found[index] = TaskState(waiting, state if waiting else "", "E" in state)
        return found

    def cancel(self, job_id: str) -> Command:
        return ("qdel", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("qdel", f"{job_id}.{index}")

    def cancel_name(self, job: str) -> Command:
        return ("qdel", job)


def option(name: str, value: str) -> Command:
    """Return an option of a command as its words; none without a value."""
    if not value:
        return ()
    return (f"{name}{value}",) if name.endswith("=") else (name, value)


def option_words(options: tuple[str, ...]) -> Command:
    """Return the words of options that a user gives as they are written in a shell."""
    return tuple(word for option in options for word in shlex.split(option))


def _ranges(text: str) -> list[int]:
    """Parse ranges such as ``1-3:1,7`` to ``[1, 2, 3, 7]``."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match is not None:
            first, last, step = (int(each) if each else None for each in match.groups())
            assert first is not None
            found += range(first, (last or first) + 1, step or 1)
    return found


DEFAULT_SCRIPT = """\
#!/bin/sh
{setup}
exec {engine}
"""

PLACEHOLDERS = ("engine", "setup", "n", "job", "output", "queue", "account", "time")


def render_script(template: str, values: dict[str, str], source: str) -> str:
    """Fill in a template of a job script: replace ``{engine}`` and the other placeholders, and keep everything else.

    :param source: where the template comes from, for messages.
    :raises ClusterError: if it does not start an engine.
    """
    if "{engine}" not in template:
        raise ClusterError(
            f"the job script {source} does not start an engine; add a line with {{engine}}"
        )
    pattern = "|".join(PLACEHOLDERS)
    return re.sub(rf"(?<!\$)\{{({pattern})\}}", lambda match: values[match.group(1)], template)
