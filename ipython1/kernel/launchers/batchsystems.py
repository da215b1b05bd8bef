"""The dialects of batch systems: how to submit, query and cancel a job array.  Pure text, no processes.

The job script itself is passed on standard input, which all of them accept; options of the array go on the command
line, where they override the directives in a user's own script.
"""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.clusterconfig import BatchOptions, ClusterConfig

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

    @abstractmethod
    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        """Return the command that submits an array, with its script on standard input.

        :param job: the name of the array.
        :param count: the number of members, 1 or more.
        :param output: the pattern for output files, from :meth:`output_pattern`.
        :param options: the queue, the account and whatever else the user asked for.
        """

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


def _found(pattern: str, output: str, name: str) -> str:
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
            *_option("--partition=", options.queue),
            *_option("--account=", options.account),
            *_option("--time=", options.time),
            *_words(options.options),
        )

    def job_id(self, output: str) -> str:
        return _found(r"^(\d+)(?:;.*)?$", output, "sbatch")

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
            *_option("-q", options.queue),
            *_option("-P", options.account),
            *_option("-l", options.time and f"h_rt={options.time}"),
            *_words(options.options),
        )

    def job_id(self, output: str) -> str:
        return _found(r"^(\d+)(?:\.\d+-\d+:\d+)?$", output, "qsub")

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


class Pbs(BatchSystem):
    """PBS Professional and OpenPBS."""

    name = "pbs"
    first = 0
    programs = ("qsub", "qstat", "qdel")
    index = "${PBS_ARRAY_INDEX:-0}"
    preamble = ('cd "$PBS_O_WORKDIR" || exit 1',)

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        # PBS rejects an array of one member.
        array = ("-J", f"0-{count - 1}") if count > 1 else ()
        return (
            *("qsub", "-N", job, *array, "-o", output, "-j", "oe", "-S", "/bin/sh", "-V"),
            *_option("-q", options.queue),
            *_option("-A", options.account),
            *_option("-l", options.time and f"walltime={options.time}"),
            *_words(options.options),
        )

    def job_id(self, output: str) -> str:
        return _found(r"^(\d+(?:\[\])?(?:\.\S+)?)$", output, "qsub")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-^array_index^.out"

    def output_name(self, stem: str, job_id: str, index: int) -> str:
        return f"{stem}-{index}.out"

    def query(self, job_id: str) -> Command:
        return ("qstat", "-t", job_id)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        found = {}
        number = job_id.partition("[")[0].partition(".")[0]
        for line in output.splitlines():
            words = line.split()
            match = re.match(rf"{number}(?:\[(\d+)\])?(?:\.|$)", words[0]) if words else None
            if match is None or len(words) < 5:
                continue
            state = words[4]
            if state in ("F", "X", "E"):
                continue
            waiting = state in ("Q", "H", "W", "T", "S")
            found[int(match.group(1) or 0)] = TaskState(waiting, state if waiting else "")
        return found

    def gone(self, output: str) -> bool:
        return "Unknown Job Id" in output or "has finished" in output

    def cancel(self, job_id: str) -> Command:
        return ("qdel", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        if "[]" not in job_id:
            return ("qdel", job_id)
        return ("qdel", job_id.replace("[]", f"[{index}]"))

    def cancel_name(self, job: str) -> Command:
        return ("sh", "-c", f"qselect -N {shlex.quote(job)} | xargs -r qdel")

    def signal(self, job_id: str, index: int, number: int) -> Command:
        member = job_id.replace("[]", f"[{index}]")
        return ("qsig", "-s", str(number), member)


class Lsf(BatchSystem):
    """IBM Spectrum LSF."""

    name = "lsf"
    first = 1
    programs = ("bsub", "bjobs", "bkill")
    index = "$LSB_JOBINDEX"

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return (
            *("bsub", "-J", f"{job}[1-{count}]", "-o", output),
            *_option("-q", options.queue),
            *_option("-P", options.account),
            *_option("-W", options.time),
            *_words(options.options),
        )

    def job_id(self, output: str) -> str:
        return _found(r"Job <(\d+)>", output, "bsub")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{directory}/{stem}-%J-%I.out"

    def query(self, job_id: str) -> Command:
        return ("bjobs", "-noheader", "-o", "jobindex stat pend_reason delimiter='|'", job_id)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        return _table_states(
            output, ended=("DONE", "EXIT", "ZOMBI"), waiting=("PEND", "PSUSP", "WAIT")
        )

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


def _option(name: str, value: str) -> Command:
    if not value:
        return ()
    return (f"{name}{value}",) if name.endswith("=") else (name, value)


def _words(options: tuple[str, ...]) -> Command:
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


def surroundings(config: ClusterConfig) -> list[str]:
    """Return the lines of a job script that set an engine's environment variables and its working directory."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in config.env]
    if config.cwd:
        lines.append(f"cd -- {shlex.quote(config.cwd)} || exit 1")
    return lines


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
