"""Stand-ins for the programs of batch systems that cannot be had here: PBS, Torque, LSF and Flux.

They take the options, and print the texts, that the manuals and sources of the real ones give, and refuse all others.
Jobs are real: each member is a process with its own session, which runs the script with the variables and the output
file that the real system would give it; it waits in the queue, ends at its time limit, and can be cancelled.

:func:`install` makes a directory of programs for ``PATH``.  The state is in the directory above it.  While there is a
file ``closed`` in it, no job leaves the queue.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = {
    "pbs": ("qsub", "qstat", "qdel", "qselect", "qsig"),
    "torque": ("qsub", "qstat", "qdel", "qselect", "qsig"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "flux": ("flux",),
}

QUEUE: Final = "main"
"""The only queue."""

_KILL_DELAY: Final = 5.0
_PAUSE: Final = 0.05


def install(kind: str, directory: Path) -> Path:
    """Make the programs of a batch system.

    :param directory: for its state.
    :returns: the directory of the programs.
    """
    programs = directory / "bin"
    programs.mkdir()
    for name in PROGRAMS[kind]:
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {kind} {name} "$@"\n')
        path.chmod(0o755)
    return programs


class Refused(Exception):
    """What the real program would print before it ends with an error."""


class Jobs:
    """The members of all jobs, each in a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def submit(self, first: int, members: list[dict[str, Any]]) -> int:
        """Start the processes of a job's members; returns its number."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            number = 1 + len(list(self.directory.glob("*.job")))
            (self.directory / f"{number}.job").touch()
        for index, what in enumerate(members, first):
            self.write({**what, "job": number, "index": index, "state": "queued", "why": ""})
            subprocess.Popen(
                [sys.executable, __file__, "run", str(self.path(number, index))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return number

    def path(self, number: int, index: int) -> Path:
        return self.directory / f"{number}.{index}.json"

    def write(self, member: dict[str, Any]) -> None:
        path = self.path(member["job"], member["index"])
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(member))
        new.replace(path)

    def all(self) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in self.directory.glob("*.*.json")]
        return sorted(found, key=lambda each: (each["job"], each["index"]))

    def of(self, number: int, index: int | None = None) -> list[dict[str, Any]]:
        return [
            each
            for each in self.all()
            if each["job"] == number and (index is None or each["index"] == index)
        ]

    def end(self, members: list[dict[str, Any]]) -> None:
        """Cancel members; their runners see to it."""
        for each in members:
            self.path(each["job"], each["index"]).with_suffix(".cancelled").touch()


def run(path: Path) -> None:
    """Run one member until it has ended."""
    jobs, member = Jobs(path.parent), json.loads(path.read_text())
    cancelled = path.with_suffix(".cancelled")
    while (jobs.directory / "closed").exists() and not cancelled.exists():
        time.sleep(_PAUSE)
    if cancelled.exists():
        jobs.write({**member, "state": "ended", "why": "cancelled"})
        return
    spool = Path(member.get("spool") or member["output"])
    with spool.open("ab") as output:
        process = subprocess.Popen(
            member["command"],
            env={**os.environ, **member["environ"]},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    member = {**member, "state": "running", "pid": process.pid}
    jobs.write(member)
    why = _watch(process, member, cancelled)
    if why == "limit":
        with spool.open("a") as output:
            output.write(f"{member['epitaph']}\n")
    if "spool" in member:
        spool.replace(member["output"])
    jobs.write({**member, "state": "ended", "why": why, "status": process.returncode})


def _watch(process: subprocess.Popen[bytes], member: dict[str, Any], cancelled: Path) -> str:
    """Wait for the end of a member; returns why it ended."""
    start, notice, why, kill_at = time.monotonic(), member["notice"], "", None
    while process.poll() is None:
        now = time.monotonic()
        limit = start + member["limit"] if member["limit"] else None
        if notice and limit and now >= limit - notice[1]:
            _send(process.pid, signal.Signals[f"SIG{notice[0]}"])
            notice = None
        if not why and (cancelled.exists() or (limit and now >= limit)):
            why = "cancelled" if cancelled.exists() else "limit"
            _send(process.pid, signal.SIGTERM)
            kill_at = now + _KILL_DELAY
        if kill_at is not None and now >= kill_at:
            _send(process.pid, signal.SIGKILL)
        time.sleep(_PAUSE)
    _send(process.pid, signal.SIGKILL)
    return why


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


class Parser(ArgumentParser):
    """Takes options as the real programs do: no abbreviations, one error."""

    def __init__(self, program: str) -> None:
        super().__init__(program, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> Any:
        raise Refused(f"{self.prog}: {message}")


def _check_queue(given: Namespace, text: str) -> None:
    if given.queue not in (None, QUEUE):
        raise Refused(text)


def _seconds(text: str) -> int:
    """The seconds of H:MM:SS, or of a number of seconds."""
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds


def _script(jobs: Jobs, name: str) -> str:
    """Keep the script that is on standard input; returns its path."""
    path = jobs.directory / f"{name}.script"
    path.write_text(sys.stdin.read())
    return str(path)


# -- PBS Professional and Torque

_PBS_STATES: Final = {"queued": "Q", "running": "R", "ended": "X"}


def qsub(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``qsub``: submit a job, or an array of jobs."""
    parser = Parser("qsub")
    parser.add_argument("-t" if kind == "torque" else "-J", dest="array")
    for name in ("-N", "-o", "-j", "-A", "-S"):
        parser.add_argument(name)
    parser.add_argument("-q", dest="queue")
    parser.add_argument("-l", action="append", default=[])
    parser.add_argument("-V", action="store_true", required=True)
    given = parser.parse_args(words)
    _check_queue(given, "qsub: Unknown queue")
    if len(given.N) > (15 if kind == "torque" else 236):
        raise Refused("qsub: illegal -N value")
    first, last = map(int, (given.array or "0-0").split("-"))
    if kind == "pbs" and given.array and first == last:
        raise Refused("qsub: illegal -J value")
    limits = [each.partition("=")[2] for each in given.l if each.startswith("walltime=")]
    script = _script(jobs, given.N)
    members = []
    for index in range(first, last + 1):
        output, environ = given.o, {"PBS_O_WORKDIR": os.getcwd(), "PBS_JOBNAME": given.N}
        if given.array and kind == "pbs":
            output = output.replace("^array_index^", str(index))
            environ["PBS_ARRAY_INDEX"] = str(index)
        elif given.array:
            output = f"{output}-{index}"
            environ["PBS_ARRAYID"] = str(index)
        members.append(
            {
                "name": given.N,
                "array": bool(given.array),
                "command": [given.S, script],
                "environ": environ,
                "output": output,
                # It is delivered after the end.
                "spool": str(jobs.directory / f"{given.N}-{index}.spool"),
                "limit": _seconds(limits[0]) if limits else 0,
                "notice": None,
                "epitaph": f"=>> PBS: job killed: walltime 9 exceeded limit {limits}",
            }
        )
    print(_pbs_id(jobs.of(jobs.submit(first, members))[0], ""))


def _pbs_id(member: dict[str, Any], index: object) -> str:
    return f"{member['job']}{f'[{index}]' if member['array'] else ''}.head"


def _pbs_members(jobs: Jobs, name: str) -> list[dict[str, Any]]:
    match = re.fullmatch(r"(\d+)(\[(\d*)\])?(?:\.head)?", name)
    found = []
    if match is not None:
        index = int(match.group(3)) if match.group(3) else None
        found = [
            each
            for each in jobs.of(int(match.group(1)), index)
            if each["array"] == bool(match.group(2))
        ]
    if not found:
        raise Refused(f"Unknown Job Id {name}")
    return found


def qstat(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``qstat``: show all attributes of an array and its members."""
    parser = Parser("qstat")
    parser.add_argument("-f", action="store_true", required=True)
    parser.add_argument("-t", action="store_true", required=True)
    parser.add_argument("job")
    given = parser.parse_args(words)
    members = _pbs_members(jobs, given.job)
    if kind == "pbs" and all(each["state"] == "ended" for each in members):
        raise Refused(
            f"{given.job} Job has finished, use -x or -H to obtain historical job information"
        )
    if kind == "pbs" and members[0]["array"]:
        print(f"Job Id: {_pbs_id(members[0], '')}\n    job_state = B\n")
    for each in members:
        state = _PBS_STATES[each["state"]]
        print(f"Job Id: {_pbs_id(each, each['index'])}")
        print(f"    Job_Name = {each['name']}")
        print(f"    job_state = {'C' if state == 'X' and kind == 'torque' else state}")
        if state == "Q":
            print(
                "    comment = Not Running: Insufficient amount of resource: ncpus (R: 1\n\t A: 0)"
            )
        if state == "X":
            print(f"    Exit_status = {-29 if each['why'] == 'limit' else each.get('status', 0)}")
        print()


def qdel(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``qdel``: end members, and arrays."""
    for name in words:
        members = [each for each in _pbs_members(jobs, name) if each["state"] != "ended"]
        if not members:
            raise Refused(f"qdel: Job has finished {name}")
        jobs.end(members)


def qselect(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``qselect``: the ids of jobs with a name."""
    parser = Parser("qselect")
    parser.add_argument("-N", required=True)
    name = parser.parse_args(words).N
    living = [each for each in jobs.all() if each["name"] == name and each["state"] != "ended"]
    for each in dict.fromkeys(_pbs_id(each, "") for each in living):
        print(each)


def qsig(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``qsig``: send a signal."""
    parser = Parser("qsig")
    parser.add_argument("-s", type=int, required=True)
    parser.add_argument("job")
    given = parser.parse_args(words)
    for each in _pbs_members(jobs, given.job):
        _send(each["pid"], given.s)


# -- LSF


def bsub(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``bsub``: submit an array."""
    parser = Parser("bsub")
    for name in ("-J", "-o", "-P", "-W", "-wa", "-wt"):
        parser.add_argument(name)
    parser.add_argument("-q", dest="queue")
    given = parser.parse_args(words)
    _check_queue(given, f"{given.queue}: No such queue. Job not submitted.")
    match = re.fullmatch(r"(.+)\[(\d+)-(\d+)\]", given.J)
    if match is None:
        raise Refused("Bad job name. Job not submitted.")
    name, first, last = match.group(1), int(match.group(2)), int(match.group(3))
    script = _script(jobs, name)
    number = 1 + len(list(jobs.directory.glob("*.job")))
    members = [
        {
            "name": name,
            "command": ["/bin/sh", script],
            "environ": {"LSB_JOBINDEX": str(index), "LSB_JOBID": str(number)},
            "output": given.o.replace("%J", str(number)).replace("%I", str(index)),
            "limit": _seconds(given.W) * 60 if given.W else 0,
            "notice": [given.wa, int(given.wt) * 60] if given.wa else None,
            "epitaph": "TERM_RUNLIMIT: job killed after reaching LSF run time limit.",
        }
        for index in range(first, last + 1)
    ]
    print(f"Job <{jobs.submit(first, members)}> is submitted to default queue <{QUEUE}>.")


def _lsf_members(jobs: Jobs, name: str) -> list[dict[str, Any]]:
    match = re.fullmatch(r"(\d+)(?:\[(\d+)\])?", name)
    found = (
        jobs.of(int(match.group(1)), int(match.group(2)) if match.group(2) else None)
        if match
        else []
    )
    if not found:
        raise Refused(f"Job <{name}> is not found")
    return found


def bjobs(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``bjobs``: show the members of an array in chosen fields."""
    parser = Parser("bjobs")
    parser.add_argument("-noheader", action="store_true", required=True)
    parser.add_argument("-o", required=True)
    parser.add_argument("job")
    given = parser.parse_args(words)
    *fields, delimiter = given.o.split()
    separator = delimiter.removeprefix("delimiter='").removesuffix("'")
    for each in _lsf_members(jobs, given.job):
        over = "DONE" if each.get("status") == 0 else "EXIT"
        reasons = {
            "limit": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
            "cancelled": "TERM_OWNER: job killed by owner",
        }
        values = {
            "jobindex": str(each["index"]),
            "stat": {"queued": "PEND", "running": "RUN", "ended": over}[each["state"]],
            "exit_reason": reasons.get(each["why"], "-"),
            "pend_reason": "Job slot limit reached; " if each["state"] == "queued" else "-",
        }
        print(separator.join(values[field] for field in fields))


def bkill(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``bkill``: end, or signal, members and arrays."""
    parser = Parser("bkill")
    parser.add_argument("-J")
    parser.add_argument("-s", type=int)
    parser.add_argument("job")
    given = parser.parse_args(words)
    if given.J:
        members = [each for each in jobs.all() if each["name"] == given.J]
    else:
        members = _lsf_members(jobs, given.job)
    living = [each for each in members if each["state"] != "ended"]
    if not living:
        raise Refused(f"Job <{given.job}>: No matching job found")
    if given.s is None:
        jobs.end(living)
    else:
        for each in living:
            _send(each["pid"], given.s)


# -- Flux


def flux(jobs: Jobs, kind: str, words: list[str]) -> None:
    """``flux``: all of its commands."""
    commands = {"submit": _flux_submit, "pgrep": _flux_pgrep, "pkill": _flux_pkill}
    if words[:2] == ["job", "kill"]:
        _flux_kill(jobs, words[2:])
    elif words[0] in commands:
        commands[words[0]](jobs, words[1:])
    else:
        raise Refused(f"flux: `{words[0]}' is not a flux command.  See 'flux --help'")


def _flux_submit(jobs: Jobs, words: list[str]) -> None:
    parser = Parser("flux-submit")
    for name in ("--cc", "--job-name", "--output", "--bank", "--time-limit", "--signal"):
        parser.add_argument(name)
    parser.add_argument("--queue")
    parser.add_argument("command", nargs=REMAINDER)
    given = parser.parse_args(words)
    _check_queue(given, f"flux-submit: ERROR: [Errno 22] Invalid queue '{given.queue}' specified")
    first, last = map(int, given.cc.split("-"))
    name, _, seconds = (given.signal or "").partition("@")
    members = [
        {
            "name": given.job_name.format(cc=index),
            "command": [word.format(cc=index) for word in given.command],
            "environ": {"FLUX_JOB_CC": str(index)},
            "output": given.output.format(cc=index),
            "limit": _fsd(given.time_limit) if given.time_limit else 0,
            "notice": [name, int(seconds.removesuffix("s"))] if name else None,
            "epitaph": "flux-job: task(s) Terminated",
        }
        for index in range(first, last + 1)
    ]
    number = jobs.submit(first, members)
    for each in jobs.of(number):
        print(_flux_id(each))


def _flux_id(member: dict[str, Any]) -> str:
    return f"ƒ{member['job']}z{member['index']}"


def _fsd(text: str) -> float:
    """The seconds of a Flux Standard Duration; without a unit, these options take minutes."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text) * 60


def _flux_matching(jobs: Jobs, given: Namespace) -> list[dict[str, Any]]:
    """Jobs whose name matches; status 1 if there are none."""
    pattern = re.compile(given.expression.removeprefix("name:"))
    found = [
        each
        for each in jobs.all()
        if pattern.search(each["name"]) and (given.a or each["state"] != "ended")
    ]
    if not found:
        sys.exit(1)
    return found


def _flux_parser(program: str) -> Parser:
    parser = Parser(program)
    parser.add_argument("--max-entries", type=int)
    parser.add_argument("expression")
    parser.set_defaults(a=False)
    return parser


def _flux_pgrep(jobs: Jobs, words: list[str]) -> None:
    parser = _flux_parser("flux-pgrep")
    parser.add_argument("-a", action="store_true")
    parser.add_argument("-n", action="store_true")
    parser.add_argument("--format")
    given = parser.parse_args(words)
    for each in _flux_matching(jobs, given):
        over = {"limit": "TIMEOUT", "cancelled": "CANCELED"}.get(each["why"], "")
        over = over or ("FAILED" if each.get("status") else "COMPLETED")
        queued = each["state"] == "queued"
        values = {
            "name": each["name"],
            "status": {"queued": "PENDING", "running": "RUNNING", "ended": over}[each["state"]],
            "state": {"queued": "SCHED", "running": "RUN", "ended": "INACTIVE"}[each["state"]],
            "urgency": "16",
            "dependencies": "",
            "exception.type": {"limit": "timeout", "cancelled": "cancel"}.get(each["why"], ""),
            "annotations.sched.reason_pending": "Waiting for 1 core" if queued else "",
        }
        print(
            re.sub(r"\{([^}]+)\}", lambda field: values[field[1]], given.format)
            if given.format
            else _flux_id(each)
        )


def _flux_pkill(jobs: Jobs, words: list[str]) -> None:
    jobs.end(_flux_matching(jobs, _flux_parser("flux-pkill").parse_args(words)))


def _flux_kill(jobs: Jobs, words: list[str]) -> None:
    parser = Parser("flux-job")
    parser.add_argument("--signal", type=int)
    parser.add_argument("ids", nargs="+")
    given = parser.parse_args(words)
    for each in jobs.all():
        if _flux_id(each) in given.ids:
            _send(each["pid"], given.signal)


COMMANDS: Final[dict[str, Callable[[Jobs, str, list[str]], None]]] = {
    **{each.__name__: each for each in (qsub, qstat, qdel, qselect, qsig)},
    **{each.__name__: each for each in (bsub, bjobs, bkill, flux)},
}


def main(words: list[str]) -> int:
    """Act as the program that the command line names.

    :returns: the exit status.
    """
    if words[0] == "run":
        run(Path(words[1]))
        return 0
    kind, program, *rest = words
    jobs = Jobs(Path(os.environ["STANDINS"]))
    try:
        COMMANDS[program](jobs, kind, rest)
    except Refused as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
