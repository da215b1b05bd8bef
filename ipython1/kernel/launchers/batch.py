"""Engines started by a batch system: job arrays whose members start one engine each, or several."""

from __future__ import annotations

import secrets
import shlex
import shutil
from collections.abc import Sequence

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ipython1.core.texts import compress_ids
from ipython1.daemon.children import tail
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.private_files import write_private
from ipython1.kernel.launchers.batchcommands import NoAnswer, one_line, run_command
from ipython1.kernel.launchers.batchjobs import (
    MOST_QUICK,
    Change,
    Ended,
    JobArray,
    Patience,
    PutBack,
    Queued,
    Shrunk,
    Started,
)
from ipython1.kernel.launchers.batchsystem import BatchSystem, Command, End
from ipython1.kernel.launchers.batchsystems import Sge, Slurm
from ipython1.kernel.launchers.interfaces import Context, IEngineLauncher, Unit
from ipython1.kernel.launchers.jobscripts import job_script, read_template
from ipython1.kernel.launchers.polling import Polling
from ipython1.kernel.launchers.queuetexts import reasons_text

LONGEST_PAUSE = 10.0
"""The longest pause, in seconds, between queries of the batch system."""

LIST_DELAY = 2.0
"""Seconds that a batch system may take to list an accepted job."""

SAY_WAITING_AFTER = 3.0

SAY_TROUBLE_AFTER = 20.0
"""Seconds for which the queue cannot be queried before the user is told."""

OUTPUT_LINES = 200
"""Lines of a member's output that are searched for the reason of its end."""

SHOWN_LINES = 20
"""Lines of it that are shown."""


@implementer(IEngineLauncher)
class BatchEngines:
    """Engines of a batch system, which the subclass specifies."""

    early = False
    waits_in_queue = True
    system: BatchSystem
    log: Logger = Logger()

    def __init__(self, context: Context) -> None:
        self.context = context
        self.kind: str = self.system.name
        self._arrays: list[JobArray] = []
        self._patience = Patience()
        self._submitting = DeferredLock()
        self._most: int | None = None
        self._polling = Polling(
            context.reactor,
            LONGEST_PAUSE,
            look=self._ask,
            failed=self._failed,
            follows=lambda: bool(self._arrays),
        )
        self._closed = False
        self._waiting_said = ""
        self._trouble: float | None = None
        self._trouble_said = False

    def check(self) -> None:
        """Check that the batch system's programs and the user's job script exist."""
        for program in self.system.programs:
            if shutil.which(program) is None:
                raise ClusterError(
                    f"program {program!r} not found; start {self.kind} engines on a host that can submit jobs"
                )
        self.system.check(self.context.config.batch)
        read_template(self.context.config)

    def default_count(self) -> int:
        """Return the configured number, by default the number of cores of this host."""
        return self.context.config.count

    async def prepare(self) -> None:
        """Ask how long a job array can be."""
        self._most = 0
        query = self.system.limit_query()
        if query is None or shutil.which(query[0]) is None:
            return
        try:
            status, text = await self._run(query)
        except ClusterError as problem:
            self.log.warn("{problem}", problem=problem)
            return
        if status == 0:
            self._most = self.system.array_limit(text)

    # -- submission

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Submit job arrays for all engines: one, if it may be as long as that."""
        if self._most is None:
            await self.prepare()
        each = self.context.config.batch.engines_per_job
        groups = [tuple(ids[at : at + each]) for at in range(0, len(ids), each)]
        units = [Unit(self._key_of(group), len(group), group) for group in groups]
        await self._submit(units)
        return units

    def _key_of(self, ids: Sequence[int]) -> str:
        return f"{self.kind} engine{'' if len(ids) == 1 else 's'} {compress_ids(ids)}"

    async def _submit(self, units: Sequence[Unit]) -> None:
        """Submit job arrays that start these engines, one member for each unit.

        :raises ClusterError: if the batch system accepts none of them, or not all; then those are cancelled.
        """
        accepted: list[JobArray] = []
        left = list(units)
        most = self._most or len(units)
        await self._submitting.acquire()
        try:
            while left:
                accepted.append(await self._submit_array(left[:most]))
                left = left[most:]
        except BaseException:
            for array in accepted:
                await self._cancel(array)
            raise
        finally:
            self._submitting.release()
        self._arrays += accepted
        self.context.observer.jobs_changed()
        self._polling.changed()

    async def _submit_array(self, units: Sequence[Unit]) -> JobArray:
        if self._closed:
            raise ClusterError("the cluster is being stopped")
        name = job_name(self.context.files.cluster_id, self.system.name_limit)
        stem = self.context.files.log_file(f"ipengine-{self.kind}").name
        if not self.system.id_in_output:
            stem = f"{stem}-{name[-6:]}"
        output = self.system.output_pattern(str(self.context.files.dirs.log), stem)
        script = job_script(self.system, self.context.config, name, units, output)
        command, stdin = self.system.submission(
            *(name, len(units), output, self.context.config.batch), script, self._file(name, script)
        )
        self.log.info("{command}", command=shlex.join(command))
        for line in script.splitlines():
            self.log.info("  {line}", line=line)
        # Cancel by name until the id is known, as this process may be killed before then.
        self.context.observer.set_end_commands(name, [self.system.cancel_name(name)])
        try:
            status, text = await self._run(command, stdin.encode(errors="surrogateescape"))
        except NoAnswer:
            await self._try(self.system.cancel_name(name))
            raise
        if status != 0:
            if self.system.one_by_one or "timed out" in text.lower():  # it may have been accepted
                await self._try(self.system.cancel_name(name))
            self.context.observer.set_end_commands(name, [])
            raise ClusterError(f"{command[0]} rejected the job: {one_line(text)}")
        if self._closed:  # what the nanny was told to cancel was not there yet
            await self._try(self.system.cancel_name(name))
            raise ClusterError("the cluster is being stopped")
        job_id = name if self.system.by_name else self.system.job_id(text)
        array = JobArray(self.system, name, job_id, stem, units)
        self.context.observer.set_end_commands(name, [self.system.cancel(array.job_id)])
        return array

    def _file(self, name: str, script: str) -> str:
        """Write the script to a file if the batch system wants one, and return its path."""
        if not self.system.script_in_file:
            return ""
        path = self.context.files.log_file(f"ipengine-{self.kind}-{name[-6:]}").with_suffix(".sh")
        return str(write_private(path, script.encode(errors="surrogateescape")))

    async def _cancel(self, array: JobArray) -> None:
        await self._try(self.system.cancel(array.job_id))
        self.context.observer.set_end_commands(array.name, [])

    async def _try(self, command: Command) -> None:
        """Run a command that may fail."""
        try:
            status, text = await self._run(command)
        except ClusterError as problem:
            self.log.warn("{problem}", problem=problem)
            return
        if status != 0:
            self.log.warn("{command}: {text}", command=shlex.join(command), text=one_line(text))

    async def _run(self, command: Command, stdin: bytes = b"") -> tuple[int, str]:
        """Run a command; return its exit status and all its output."""
        return await run_command(self.context.reactor, command, stdin, say=self._say_slow)

    def _say_slow(self, text: str) -> None:
        if not self._closed and self._trouble is None:
            self.context.observer.say(text)

    # -- following

    def _failed(self, failure: Failure) -> None:
        self.log.failure("cannot query the batch system", failure)

    async def _ask(self) -> None:
        again: list[Ended] = []
        for array in list(self._arrays):
            query = self.system.query(array.job_id)
            try:
                status, text = await self._run(query)
            except ClusterError as problem:
                status, text = 1, str(problem)
            if self._closed:
                return
            if status != 0 and not self.system.gone(text):
                self._query_failed(query[0], text)
                break
            self._query_succeeded(query[0])
            await self._take(array, text if status == 0 else "", again)
            if self._closed:
                return
        self._say_waiting()
        await self._submit_again(again)

    async def _take(self, array: JobArray, text: str, again: list[Ended]) -> None:
        """Take what the batch system says of an array; add the engines that are to be submitted again to ``again``."""
        states = self.system.states(array.job_id, text)
        why_held = await self._why_held(array) if array.is_held(states) else ""
        now = self.context.reactor.seconds()
        changes = array.take(
            states,
            now,
            lambda index: self._output(array, index, OUTPUT_LINES),
            young=self._polling.age < LIST_DELAY,
            why_held=why_held,
        )
        for change in changes:
            if isinstance(change, Ended) and change.held:
                await self._try(self.system.cancel_member(array.job_id, change.index))
            if isinstance(change, Ended) and self._is_submitted_again(change):
                self.context.observer.unit_comes_back(change.unit.key, change.reason)
                again.append(change)
            else:
                await self._tell(array, change)
        put_back = [change.unit for change in changes if isinstance(change, PutBack)]
        if put_back:
            one = sum(unit.count for unit in put_back) == 1
            self.context.observer.say(
                f"{self._named(put_back)} {'was' if one else 'were'} put back into the queue by {self.kind}"
            )
        if array.over and array in self._arrays:
            self._arrays.remove(array)
            self.context.observer.set_end_commands(array.name, [])
            self.context.observer.jobs_changed()

    async def _why_held(self, array: JobArray) -> str:
        command = self.system.explain(array.job_id)
        if command is None:
            return ""
        try:
            return (await self._run(command))[1]
        except ClusterError:
            return ""

    async def _tell(self, array: JobArray, change: Change) -> None:
        observer, key = self.context.observer, change.unit.key
        match change:
            case Queued():
                observer.unit_queued(key, change.reason)
            case Started():
                observer.unit_queued(key, None)
            case PutBack():
                observer.unit_comes_back(key, f"was put back into the queue by {self.kind}")
                observer.unit_queued(key, change.reason)
            case Shrunk():
                observer.unit_shrinks(change.unit, change.ends)
            case Ended():
                observer.unit_ended(
                    key,
                    f"{change.reason} (job {array.job_id}, member {change.index})",
                    change.lines[-SHOWN_LINES:],
                    change.asked,
                    by_system=change.end is not End.ITSELF,
                )

    def _is_submitted_again(self, ended: Ended) -> bool:
        if ended.asked or ended.end is not End.SYSTEM or not self.context.config.batch.resubmit:
            return False
        if self._patience.lasts(ended):
            return True
        self.context.observer.say(
            f"{ended.unit.key} {ended.reason} at once {MOST_QUICK} times in a row, and is not submitted again"
        )
        return False

    async def _submit_again(self, ended: Sequence[Ended]) -> None:
        """Submit engines again that the batch system has ended."""
        if not ended:
            return
        known = set(self.jobs())
        try:
            await self._submit([each.unit for each in ended])
        except ClusterError as problem:
            for each in ended:
                reason = f"{each.reason}, and cannot be submitted again: {problem}"
                self.context.observer.unit_ended(
                    each.unit.key, reason, each.lines[-SHOWN_LINES:], False, by_system=True
                )
            return
        new = [job for job in self.jobs() if job not in known]
        jobs = f"job{'' if len(new) == 1 else 's'} {', '.join(new)}"
        for reason in dict.fromkeys(each.reason for each in ended):
            units = [each.unit for each in ended if each.reason == reason]
            one = sum(unit.count for unit in units) == 1
            are, who = ("is", "it") if one else ("are", "each")
            self.context.observer.say(
                f"{self._named(units)} {are} submitted again as {jobs}: {who} {reason}"
            )

    def _named(self, units: Sequence[Unit]) -> str:
        return self._key_of([engine_id for unit in units for engine_id in unit.ids])

    def _query_failed(self, program: str, text: str) -> None:
        """The queue cannot be queried now; that is told if it lasts."""
        now = self.context.reactor.seconds()
        self.log.warn("{program}: {text}", program=program, text=one_line(text))
        if self._trouble is None:
            self._trouble = now
        if not self._trouble_said and now - self._trouble >= SAY_TROUBLE_AFTER:
            self._trouble_said = True
            self.context.observer.say(
                f"the queue has not been known for {now - self._trouble:.0f} s: {program}: {one_line(text)}; "
                "engines go on, and jobs that end meanwhile are noticed later"
            )

    def _query_succeeded(self, program: str) -> None:
        if self._trouble_said:
            self.context.observer.say(f"{program} answers again")
        self._trouble, self._trouble_said = None, False

    def _say_waiting(self) -> None:
        if self._polling.age < SAY_WAITING_AFTER:
            return
        text = reasons_text(each for array in self._arrays for each in array.waiting)
        if text and text != self._waiting_said:
            self.context.observer.say(f"engines waiting in the queue: {text}")
        self._waiting_said = text

    def _output(self, array: JobArray, index: int, lines: int) -> list[str]:
        name = self.system.output_name(array.stem, array.job_id, index)
        return tail(str(self.context.files.dirs.log / name), lines)

    # -- requests of users

    def _member_of(self, unit: Unit) -> tuple[JobArray, int]:
        for array in self._arrays:
            index = array.index_of(unit.key)
            if index is not None:
                return array, index
        raise ClusterError(f"{unit.key} has ended, or is being submitted again")

    async def remove(self, unit: Unit) -> None:
        """Cancel one member of a job array, with all its engines."""
        array, index = self._member_of(unit)
        member = array.members[index]
        member.removed = True
        status, text = await self._run(self.system.cancel_member(array.job_id, index))
        if status != 0:
            member.removed = False
            raise ClusterError(f"cannot cancel {unit.key}: {one_line(text)}")
        self._polling.changed()

    def shrink(self, rest: Unit) -> None:
        """Some engines of a member are ended by the controller; the others stay."""
        array, index = self._member_of(rest)
        array.members[index].unit = rest

    async def restart(self, unit: Unit) -> None:
        """Raise an error: a single member cannot be restarted."""
        raise ClusterError(
            "engines of a batch job cannot be restarted; remove the engine and add another one"
        )

    def signal(self, unit: Unit, number: int) -> None:
        """Send a signal to all engines of one member, if the batch system supports it."""
        array, index = self._member_of(unit)
        command = self.system.signal(array.job_id, index, number)
        if command is None:
            raise ClusterError(f"{self.kind} cannot send signals to engines")
        Deferred.fromCoroutine(self._try(command)).addErrback(
            lambda failure: self.log.failure("cannot send a signal", failure)
        )

    async def logs(self, unit: Unit, engine_id: int, lines: int) -> list[str]:
        """Return the last lines of an engine's log, or of the job's output if there is no log."""
        found = tail(str(self.context.files.engine_log(engine_id)), lines)
        if found:
            return found
        array, index = self._member_of(unit)
        return self._output(array, index, lines)

    def jobs(self) -> Sequence[str]:
        """Return the ids of the job arrays of which the batch system still has members."""
        return [array.job_id for array in self._arrays]

    async def close(self, grace: float) -> None:
        """Stop querying; the cluster's end commands cancel the jobs.

        What is just being submitted is waited for, and cancelled.
        """
        self._closed = True
        self._polling.end()
        await self._submitting.acquire()
        self._submitting.release()


def job_name(cluster_id: str, limit: int = 60) -> str:
    """Return a unique job name, as jobs are also cancelled by name.

    :param limit: the number of characters that the batch system allows.
    """
    return f"ip-{(cluster_id or 'engines')[: limit - 10]}-{secrets.token_hex(3)}"


class SlurmEngines(BatchEngines):
    """Engines started by Slurm."""

    system: Slurm = Slurm()


class SgeEngines(BatchEngines):
    """Engines started by Grid Engine."""

    system: Sge = Sge()
