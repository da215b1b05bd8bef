"""HTCondor: one cluster of jobs, which HTCondor numbers from 0, with one engine per job.

A submit description is not a shell script, so the job script is a file that every job runs with its number as its
argument.  The script, the interpreter and the cluster's directory have to be on a file system that the execute
machines share.
"""

from __future__ import annotations

import json
import re
from typing import Final

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batch import BatchEngines
from ipython1.kernel.launchers.batchsystems import BatchSystem, Command, TaskState, found_in
from ipython1.kernel.launchers.clusterconfig import BatchOptions

_ATTRIBUTES: Final = "ProcId,JobStatus,HoldReason,HoldReasonCode,LastRejMatchReason"

# The values of JobStatus; 2 is running, 6 transferring output, and 7 suspended, when the process is still there.
_IDLE: Final = 1
_REMOVED: Final = 3
_COMPLETED: Final = 4
_HELD: Final = 5

# The values of HoldReasonCode for jobs that a user holds, and releases again.
_HELD_BY_USER: Final = (1, 15)
_TIME_LIMIT: Final = 46

_GRACE: Final = 60
"""Seconds that an engine has to end after its time limit."""


class HtCondor(BatchSystem):
    """HTCondor."""

    name = "htcondor"
    first = 0
    programs = ("condor_submit", "condor_q", "condor_rm")
    index = "$1"
    script_in_file = True

    def check(self, options: BatchOptions) -> None:
        if options.queue:
            raise ClusterError(
                "HTCondor has no queues; say what the engines need with "
                "batch options such as 'requirements = ...', not with a queue"
            )
        for line in options.options:
            if "=" not in line:
                raise ClusterError(
                    f"{line!r} is not an option for HTCondor; "
                    "give lines of a submit description: 'request_memory = 4GB'"
                )
        if options.time:
            seconds_of(options.time)

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
            *([f"accounting_group = {options.account}"] if options.account else []),
        ]
        if options.time:
            # Past this limit, the job gets SIGTERM, and is held as soon as its process has ended.
            lines += [
                f"allowed_job_duration = {seconds_of(options.time)}",
                f"job_max_vacate_time = {_GRACE}",
            ]
        # Of two lines for the same thing, the last one counts.
        lines += [*options.options, f"queue {count}"]
        return self.submit(job, count, output, options), "\n".join([*lines, ""])

    def job_id(self, output: str) -> str:
        return found_in(r"^(\d+)\.\d+ - \d+\.\d+\s*$", output, "condor_submit")

    def output_pattern(self, directory: str, stem: str) -> str:
        return f"{_literal(directory)}/{stem}-$(Cluster)-$(Process).out"

    def query(self, job_id: str) -> Command:
        return ("condor_q", job_id, "-json", "-attributes", _ATTRIBUTES)

    def states(self, job_id: str, output: str) -> dict[int, TaskState]:
        # It prints nothing if there are no jobs.
        start = output.find("[")
        jobs = json.JSONDecoder().raw_decode(output, start)[0] if start >= 0 else []
        return {
            job["ProcId"]: _state(job)
            for job in jobs
            if job["JobStatus"] not in (_REMOVED, _COMPLETED)
        }

    def cancel(self, job_id: str) -> Command:
        return ("condor_rm", job_id)

    def cancel_member(self, job_id: str, index: int) -> Command:
        return ("condor_rm", f"{job_id}.{index}")

    def cancel_name(self, job: str) -> Command:
        return ("condor_rm", "-constraint", f'JobBatchName == "{job}"')


def _state(job: dict[str, object]) -> TaskState:
    if job["JobStatus"] == _HELD:
        code = job.get("HoldReasonCode")
        reason = str(job.get("HoldReason", "")).strip() or f"held with code {code}"
        if code in _HELD_BY_USER:
            return TaskState(True, f"held: {reason}")
        return TaskState(False, reason, error=True)
    if job["JobStatus"] == _IDLE:
        return TaskState(True, str(job.get("LastRejMatchReason", "")).strip())
    return TaskState(False)


def seconds_of(time: str) -> int:
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

    system = HtCondor()
