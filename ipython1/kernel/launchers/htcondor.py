"""HTCondor: one cluster of jobs, which HTCondor numbers from 0, with one engine per job.

A submit description is not a shell script, so the job script is a file that every job runs with its number as its
argument.  The script, the interpreter and the cluster's directory have to be on a file system that the execute
machines share.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batch import BatchEngines
from ipython1.kernel.launchers.batchsystem import BatchSystem, Command, End, TaskState, found_id
from ipython1.kernel.launchers.clusterconfig import BatchOptions

_ATTRIBUTES: Final = "ProcId,JobStatus,HoldReason,HoldReasonCode,LastRejMatchReason"

# The values of JobStatus; for 2 (running), 6 (transferring output) and 7 (suspended), the process is there.
_IDLE: Final = 1
_REMOVED: Final = 3
_COMPLETED: Final = 4
_HELD: Final = 5

# The values of HoldReasonCode.
_BY_USER: Final = (1, 15)
"""Jobs that a user holds, and releases again."""
_TIME_LIMITS: Final = (46, 47)

_GRACE: Final = 10
"""Seconds that a job has to end if it is not told before its time limit."""


class HtCondor(BatchSystem):
    """HTCondor."""

    name = "htcondor"
    first = 0
    programs: ClassVar[tuple[str, ...]] = ("condor_submit", "condor_q", "condor_rm")
    index = "$1"
    script_in_file = True
    notices: ClassVar[tuple[str, ...]] = ("SIGURG",)

    def check(self, options: BatchOptions) -> None:
        if options.queue:
            raise ClusterError(
                "HTCondor has no queues; say what the engines need by "
                "a batch option such as 'requirements = ...', not by a queue"
            )
        for line in options.options:
            if not re.match(r"\s*[+\w.]+\s*=", line):
                raise ClusterError(
                    f"{line!r} is not an option for HTCondor; "
                    "give lines of a submit description, such as 'request_memory = 4GB'"
                )
        if options.time:
            limit_of(options.time)

    def submit(self, job: str, count: int, output: str, options: BatchOptions) -> Command:
        return ("condor_submit", "-terse")

    def submission(
        self, job: str, count: int, output: str, options: BatchOptions, script: str, path: str
    ) -> tuple[Command, str]:
        lines = [
            "universe = vanilla",
            "executable = /bin/sh",
            "transfer_executable = false",
            f'arguments = "{_quoted(path)} $(Process)"',
            f"output = {output}",
            f"error = {output}",
            "getenv = true",
            f'+JobBatchName = "{job}"',
            # One signal for all ends: when it holds a job, HTCondor sends the one that is for removed jobs.
            "kill_sig = SIGURG",
            *([f"accounting_group = {options.account}"] if options.account else []),
            *self._limits(options),
        ]
        if not options.resubmit:
            lines.append("periodic_remove = JobStatus == 1 && NumShadowStarts > 0")
        # Of two lines for the same thing, the last one counts.
        lines += [*options.options, f"queue {count}"]
        return self.submit(job, count, output, options), "\n".join([*lines, ""])

    @staticmethod
    def _limits(options: BatchOptions) -> list[str]:
        """Past its duration, a job gets the signal of kill_sig, and as soon as its process has ended, it is held."""
        notice = math.ceil(options.notice)
        if not options.time:
            return [f"job_max_vacate_time = {notice or _GRACE}"]
        limit = limit_of(options.time)
        notice = min(notice, limit // 2)
        return [
            f"job_max_vacate_time = {notice or _GRACE}",
            f"allowed_job_duration = {limit - notice}",
        ]

    def job_id(self, output: str) -> str:
        return found_id(r"^(\d+)\.\d+ - \d+\.\d+\s*$", output, "condor_submit")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{_literal(directory)}/{stem}-$(Cluster)-$(Process).out"

    def query(self, job_id: str) -> Command:
        return ("condor_q", job_id, "-json", "-attributes", _ATTRIBUTES)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        return {job["ProcId"]: _state(job) for job in _jobs(output)}

    def told_end(self, lines: Sequence[str]) -> str:
        # What HTCondor ends stays in the queue.  A job that left after the signal and is gone was removed by somebody.
        return ""

    def explain(self, job_id: str) -> Command:
        return self.query(job_id)

    def explanation(self, output: str, index: int) -> str:
        reasons = (job.get("HoldReason", "") for job in _jobs(output) if job["ProcId"] == index)
        return " ".join(next(reasons, "").split())

    def cancel(self, job_id: str) -> Command:
        return ("condor_rm", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("condor_rm", f"{job_id}.{index}")

    def cancel_name(self, job: str) -> Command:
        return ("condor_rm", "-constraint", f'JobBatchName == "{job}"')


def _jobs(output: str) -> list[dict[str, Any]]:
    """Return the jobs that condor_q printed; it prints nothing if there are none."""
    start = output.find("[")
    return list(json.JSONDecoder().raw_decode(output, start)[0]) if start >= 0 else []


def _state(job: dict[str, Any]) -> TaskState:
    status, code = job["JobStatus"], job.get("HoldReasonCode")
    if status == _COMPLETED:
        return TaskState(False, "ended", end=End.ITSELF)
    if status == _REMOVED:
        return TaskState(False, "was removed", end=End.SOMEBODY)
    if status == _IDLE:
        return TaskState(True, job.get("LastRejMatchReason", "").strip())
    if status != _HELD:
        return TaskState(False)
    if code in _BY_USER:
        return TaskState(True, f"held: {job.get('HoldReason', '')}")
    if code in _TIME_LIMITS:
        return TaskState(False, "reached its time limit", error=True, end=End.SYSTEM)
    return TaskState(False, error=True)


def limit_of(time: str) -> int:
    """Return the seconds of a time limit: ``H:MM:SS``, ``D-HH:MM:SS``, or a number of seconds.

    :raises ClusterError: if it is none of these.
    """
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+))", time)
    if match is None:
        raise ClusterError(
            f"{time!r} is not a time limit for HTCondor; give H:MM:SS, D-HH:MM:SS, or a number of seconds"
        )
    days, hours, minutes, seconds, plain = (int(each or 0) for each in match.groups())
    return plain or ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _literal(text: str) -> str:
    """Return text in which a submit description finds no macros."""
    return text.replace("$", "$(DOLLAR)")


def _quoted(word: str) -> str:
    """Return a word as it is written among the arguments of a submit description, which are in double quotes."""
    return "'" + _literal(word).replace("'", "''").replace('"', '""') + "'"


class HtCondorEngines(BatchEngines):
    """Engines started by HTCondor."""

    system: HtCondor = HtCondor()
