"""Engines started by a batch system: one job array with one engine per member."""

from __future__ import annotations

import locale
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger
from zope.interface import implementer

from ipython1.daemon.children import tail
from ipython1.daemon.pythoncommand import python_command
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batchsystems import (
    DEFAULT_SCRIPT,
    PLACEHOLDERS,
    BatchSystem,
    Command,
    Lsf,
    Pbs,
    Sge,
    Slurm,
    TaskState,
    render_script,
    surroundings,
)
from ipython1.kernel.launchers.interfaces import Context, IEngineLauncher, Unit
from ipython1.kernel.launchers.programs import ENGINE_MODULE
from ipython1.regularfiles import read_regular_text

FIRST_POLL = 0.5
LAST_POLL = 10.0
POLL_FACTOR = 1.3
"""Seconds between queries of the batch system; the interval grows."""

LIST_DELAY = 2.0
"""Seconds that a batch system may take to list an accepted job."""

SAY_WAITING_AFTER = 3.0
COMMAND_LIMIT = 60.0


@dataclass(slots=True)
class _Job:
    """A submitted job array.

    :ivar first_id: the engine id of the member with the lowest index.
    :ivar living: the indices of members that have not ended, by unit key.
    :ivar seen: whether the batch system has already listed it.
    """

    job: str
    job_id: str
    stem: str
    first_id: int
    living: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    seen: bool = False


@implementer(IEngineLauncher)
class BatchEngines:
    """Engines of a batch system, which the subclass specifies."""

    early = False
    waits_in_queue = True
    system: BatchSystem
    log = Logger()

    def __init__(self, context: Context) -> None:
        self.context = context
        self.kind = self.system.name
        self._jobs: list[_Job] = []
        self._call: Any = None
        self._pause = FIRST_POLL
        self._asking = False
        self._closed = False
        self._waiting_said = ""
        self._begun = 0.0

    def check(self) -> None:
        """Check that the batch system's programs and the user's job script exist."""
        for program in self.system.programs:
            if shutil.which(program) is None:
                raise ClusterError(
                    f"program {program!r} not found; start {self.kind} engines on a host that can submit jobs"
                )
        self._template()

    def default_count(self) -> int:
        """Return the configured number, by default the number of cores of this host."""
        return self.context.config.count

    async def prepare(self) -> None:
        """Do nothing."""

    # -- submission

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Submit one job array for all engines."""
        count = len(ids)
        # Members need consecutive ids, so if there are gaps, use ids above all existing ones.
        first_id = ids[0] if list(ids) == list(range(ids[0], ids[0] + count)) else ids[-1] + 1
        name = job_name(self.context.files.cluster_id)
        stem = self.context.files.log_file(f"ipengine-{self.kind}").name
        if "^" in self.system.output_pattern("", stem):
            stem = f"{stem}-{name[-6:]}"
        output = self.system.output_pattern(str(self.context.files.dirs.log), stem)
        script = self._script(name, count, output, first_id)
        command = self.system.submit(name, count, output, self.context.config.batch)
        self.log.info("{command}", command=shlex.join(command))
        for line in script.splitlines():
            self.log.info("  {line}", line=line)
        # Cancel by name until the id is known, as this process may be killed before then.
        self.context.observer.set_end_commands(name, [self.system.cancel_name(name)])
        status, text = await self._run(command, script.encode(errors="surrogateescape"))
        if status != 0:
            self.context.observer.set_end_commands(name, [])
            raise ClusterError(f"{command[0]} rejected the job: {_one_line(text)}")
        job = _Job(name, self.system.job_id(text), stem, first_id)
        units = []
        for offset in range(count):
            key = f"{self.kind} job {job.job_id}, engine {first_id + offset}"
            job.living[key] = self.system.first + offset
            units.append(Unit(key, 1, (first_id + offset,)))
        self._jobs.append(job)
        self.context.observer.set_end_commands(name, [self.system.cancel(job.job_id)])
        self.context.observer.jobs_changed()
        self._poll_soon()
        return units

    def _template(self) -> str:
        path = self.context.config.batch.template
        if not path:
            return DEFAULT_SCRIPT
        try:
            text = read_regular_text(path, locale.getencoding())
        except OSError as problem:
            raise ClusterError(f"cannot read the job script {path}: {problem.strerror}") from None
        render_script(text, dict.fromkeys(PLACEHOLDERS, ""), path)
        if surroundings(self.context.config) and "{setup}" not in text:
            raise ClusterError(
                f"the job script {path} has no place for the environment and the working directory of the engines; "
                "add a line with {setup} before the one with {engine}"
            )
        return text

    def _script(self, name: str, count: int, output: str, first_id: int) -> str:
        config = self.context.config
        arguments = [*config.common_arguments(), *config.engine_options()]
        python = config.batch.python or config.python
        words = python_command(ENGINE_MODULE, ["ipengine", *arguments], python=python)
        offset = first_id - self.system.first
        index = self.system.index if offset == 0 else f"$(({self.system.index} + {offset}))"
        values = {
            "engine": f'{shlex.join(words)} --engine-id="{index}"',
            "setup": "\n".join([*self.system.preamble, *config.batch.setup, *surroundings(config)]),
            "n": str(count),
            "job": name,
            "output": output,
            "queue": config.batch.queue,
            "account": config.batch.account,
            "time": config.batch.time,
        }
        return render_script(self._template(), values, config.batch.template or "of this package")

    async def _run(self, command: Command, stdin: bytes | None = None) -> tuple[int, str]:
        """Run a command; return its exit status and all its output."""
        program = shutil.which(command[0]) or command[0]
        running: Deferred[Any] = getProcessOutputAndValue(
            program,
            command[1:],
            env=dict(os.environ),
            stdinBytes=stdin,
            reactor=self.context.reactor,
        )
        running.addTimeout(COMMAND_LIMIT, self.context.reactor)
        out, err, status = await running
        return int(status), (out + err).decode(errors="replace")

    # -- following

    def _poll_soon(self) -> None:
        self._pause = FIRST_POLL
        self._begun = self.context.reactor.seconds()
        if not self._asking:
            if self._call is not None and self._call.active():
                self._call.cancel()
            self._call = self.context.reactor.callLater(self._pause, self._poll)

    def _poll(self) -> None:
        if self._closed:
            return
        self._asking = True

        def again(_: Any) -> None:
            self._asking = False
            self._pause = min(self._pause * POLL_FACTOR, LAST_POLL)
            if not self._closed and any(job.living for job in self._jobs):
                self._call = self.context.reactor.callLater(self._pause, self._poll)

        def failed(failure: Any) -> None:
            self.log.failure("cannot query the batch system", failure)

        Deferred.fromCoroutine(self._ask()).addErrback(failed).addBoth(again)

    async def _ask(self) -> None:
        waiting: dict[str, int] = {}
        for job in list(self._jobs):
            if not job.living:
                continue
            status, text = await self._run(self.system.query(job.job_id))
            if self._closed:
                return
            if status != 0 and not self.system.gone(text):
                self.log.warn(
                    "{command}: {text}", command=self.system.query(job.job_id)[0], text=text
                )
                continue
            states = self.system.states(job.job_id, text) if status == 0 else {}
            if not states and not job.seen and self._age() < LIST_DELAY:
                continue  # it may not be listed yet
            job.seen = True
            self._take_states(job, states, waiting)
        self._say_waiting(waiting)

    def _age(self) -> float:
        """Return the seconds since the latest submission."""
        return float(self.context.reactor.seconds() - self._begun)

    def _take_states(
        self, job: _Job, states: dict[int, TaskState], waiting: dict[str, int]
    ) -> None:
        for key, index in list(job.living.items()):
            state = states.get(index)
            if state is None or state.error:
                del job.living[key]
                reason = "ended" if state is None else "is held by the batch system after an error"
                self.context.observer.unit_ended(
                    key, reason, self._output(job, index), asked=key in job.removed
                )
            elif state.waiting:
                waiting[state.reason] = waiting.get(state.reason, 0) + 1
        if not job.living:
            self.context.observer.set_end_commands(job.job, [])
            self.context.observer.jobs_changed()

    def _say_waiting(self, waiting: dict[str, int]) -> None:
        if self._age() < SAY_WAITING_AFTER:
            return
        parts = [
            f"{count} ({reason})" if reason else str(count) for reason, count in waiting.items()
        ]
        text = f"engines waiting in the queue: {', '.join(parts)}" if parts else ""
        if text and text != self._waiting_said:
            self.context.observer.say(text)
        self._waiting_said = text

    def _output(self, job: _Job, index: int) -> list[str]:
        name = self.system.output_name(job.stem, job.job_id, index)
        return tail(str(self.context.files.dirs.log / name), 20)

    # -- requests of users

    def _job_of(self, unit: Unit) -> tuple[_Job, int]:
        for job in self._jobs:
            if unit.key in job.living:
                return job, job.living[unit.key]
        raise ClusterError(f"{unit.key} has ended")

    async def remove(self, unit: Unit) -> None:
        """Cancel one member of a job array."""
        job, index = self._job_of(unit)
        job.removed.add(unit.key)
        status, text = await self._run(self.system.cancel_member(job.job_id, index))
        if status != 0:
            raise ClusterError(f"cannot cancel {unit.key}: {_one_line(text)}")
        self._poll_soon()

    async def restart(self, unit: Unit) -> None:
        """Raise an error: a single member cannot be restarted."""
        raise ClusterError(
            "engines of a batch job cannot be restarted; remove the engine and add another one"
        )

    def signal(self, unit: Unit, number: int) -> None:
        """Send a signal to one member, if the batch system supports it."""
        job, index = self._job_of(unit)
        command = self.system.signal(job.job_id, index, number)
        if command is None:
            raise ClusterError(f"{self.kind} cannot send signals to engines")
        Deferred.fromCoroutine(self._run(command)).addErrback(
            lambda failure: self.log.failure("cannot send a signal", failure)
        )

    async def logs(self, unit: Unit, engine_id: int, lines: int) -> list[str]:
        """Return the last lines of an engine's log, or of the job's output if there is no log."""
        found = tail(str(self.context.files.engine_log(engine_id)), lines)
        if found:
            return found
        job, index = self._job_of(unit)
        return self._output(job, index)[-lines:]

    def jobs(self) -> Sequence[str]:
        """Return the ids of the job arrays that still have members."""
        return [job.job_id for job in self._jobs if job.living]

    async def close(self, grace: float) -> None:
        """Stop querying; the cluster's end commands cancel the jobs."""
        self._closed = True
        if self._call is not None and self._call.active():
            self._call.cancel()


def job_name(cluster_id: str) -> str:
    """Return a unique job name, as jobs are also cancelled by name, within the length that batch systems allow."""
    return f"ip-{(cluster_id or 'engines')[:48]}-{secrets.token_hex(3)}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:500] or "no error message"


class SlurmEngines(BatchEngines):
    """Engines started by Slurm."""

    system = Slurm()


class SgeEngines(BatchEngines):
    """Engines started by Grid Engine."""

    system = Sge()


class PbsEngines(BatchEngines):
    """Engines started by PBS."""

    system = Pbs()


class LsfEngines(BatchEngines):
    """Engines started by LSF."""

    system = Lsf()
