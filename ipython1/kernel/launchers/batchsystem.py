"""What the dialects of batch systems have in common: the questions that a launcher asks one; no processes."""

from __future__ import annotations

import enum
import math
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ipython1.daemon.jobmember import LEAVE
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.clusterconfig import BatchOptions

Command = tuple[str, ...]


class End(enum.Enum):
    """Who has ended a member of a job."""

    ITSELF = "itself"
    """It has ended, or was ended for what it did."""

    SOMEBODY = "somebody"
    """Somebody has cancelled it."""

    SYSTEM = "system"
    """The batch system has ended it for a reason of its own (a time limit, preemption, a lost node)."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """A member's state in the batch system.

    :ivar waiting: it is in the queue and not running yet.
    :ivar reason: why it is waiting, in the batch system's words; why it has ended, as the end of a sentence.
    :ivar error: the batch system holds it because it failed.
    :ivar end: who has ended it; None if it has not ended.
    """

    waiting: bool
    reason: str = ""
    error: bool = False
    end: End | None = None


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

    notice_step: ClassVar[int] = 1
    """Seconds to a multiple of which a notice is rounded up."""

    notices: ClassVar[Command] = ()
    """The signals by which :meth:`submit` has a job told that it will be ended soon."""

    signs: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What the batch system writes into the output of a job that it ends: a part of the line, and what that means."""

    def check(self, options: BatchOptions) -> None:
        """Check what the user asked for, as far as that is possible before the submission.

        :raises ClusterError: if this batch system has no such thing, or jobs would be told to end as they begin.
        """
        limit = self.limit_seconds(options.time)
        notice = math.ceil(options.notice / self.notice_step) * self.notice_step
        if notice and 0 < limit <= notice:
            raise ClusterError(
                f"with a time limit of {options.time} ({limit:g} s), engines would leave as soon as they start, as "
                f"they do so {notice} s before it: give a longer time, or a shorter notice (0 for none)"
            )

    def limit_seconds(self, time: str) -> float:
        """Return the seconds of a time limit; 0 if it is none, is not understood, or no notice can be too long for it.

        :param time: the limit in this batch system's format; may be empty.
        """
        return 0.0

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
        :raises ClusterError: if it cannot be submitted like this.
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
        """Return the states of members by index: those that have not ended, and others if the batch system lists them.

        :param output: what the command of :meth:`query` printed.
        """

    def told_end(self, lines: Sequence[str]) -> str:
        """Return why the batch system has ended a member, from its output; empty if it has not.

        :param lines: the last lines of the output.
        """
        for line in reversed(lines):
            if line.strip() == LEAVE:
                return f"left before the end that {self.name} had announced"
            for sign, meaning in self.signs:
                if sign in line:
                    return meaning
        return ""

    def explain(self, job_id: str) -> Command | None:
        """Return the command that says why members of an array are held after an error; None if there is none."""
        return None

    def explanation(self, output: str, index: int) -> str:
        """Return why a member is held, in one line, from what :meth:`explain` printed; empty if it does not say."""
        return ""

    def limit_query(self) -> Command | None:
        """Return the command that tells the largest size of an array; None if there is none."""
        return None

    def array_limit(self, output: str) -> int:
        """Return how many members an array can have, from what :meth:`limit_query` printed; 0 if it does not say."""
        return 0

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


def found_id(pattern: str, output: str, name: str) -> str:
    """Return the job id that a pattern finds in the output of a submission.

    :param name: the program, for the error.
    :raises ClusterError: if there is none.
    """
    match = re.search(pattern, output, re.M)
    if match is None:
        said = " ".join(output.split())[:300] or "nothing"
        raise ClusterError(f"{name} did not print a job id; its output: {said}")
    return match.group(1)


def table_states(
    output: str, *, ends: Mapping[str, tuple[End, str]], waiting: tuple[str, ...]
) -> dict[int, TaskState]:
    """Read the states from a table whose lines are ``index|state|reason``.

    :param ends: who has ended a member in a state, and what happened.
    """
    found = {}
    for line in output.splitlines():
        index, state, reason = (*(word.strip() for word in line.split("|")), "", "")[:3]
        if not index.isdigit():
            continue
        if state in ends:
            end, what = ends[state]
            found[int(index)] = TaskState(False, what, end=end)
        else:
            said = reason if state in waiting and reason != "None" else ""
            found[int(index)] = TaskState(state in waiting, said)
    return found


def seconds_of(text: str) -> float | None:
    """Return the seconds of a time such as ``90:00``, ``1:30:00`` or ``5400``; None for other forms.

    Two numbers are hours and minutes for some batch systems and minutes and seconds for others: the shorter is taken.
    """
    match = re.fullmatch(r"(?:(\d+):)?(?:(\d+):)?(\d+)", text.strip())
    if match is None:
        return None
    first, second, last = (int(each or 0) for each in match.groups())
    return float(first * 60 + last if match.group(2) is None else first * 3600 + second * 60 + last)


def option(name: str, value: str) -> Command:
    """Return an option of a command as its words; none without a value.

    :param name: with ``=`` at its end if the value is part of the same word.
    """
    if not value:
        return ()
    return (f"{name}{value}",) if name.endswith("=") else (name, value)


def option_words(options: tuple[str, ...]) -> Command:
    """Return the words of options that a user gives as they are written in a shell."""
    return tuple(word for each in options for word in shlex.split(each))
