"""A cluster from Python: started, changed and ended without a shell.

>>> from ipython1.kernel.client import Cluster
>>> with Cluster(n=4) as cluster:
...     mec = cluster.multiengine()
...     print(mec.get_ids())
[0, 1, 2, 3]
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ipython1.checks import check_bool, check_int, check_seconds
from ipython1.daemon import osprocess
from ipython1.kernel.basics.attributes import CheckedAttributes, Setting, yes_or_no
from ipython1.kernel.basics.error import ClusterError, ConnectionError, ResultNotCompleted
from ipython1.kernel.calls.othernames import CLUSTER
from ipython1.kernel.clusters.adapting import CanAdapt
from ipython1.kernel.clusters.arguments import (
    FINISH,
    addition,
    check_limit,
    engine_id,
    id_list,
)
from ipython1.kernel.clusters.clusterforms import ClusterForms
from ipython1.kernel.clusters.clusterwidget import LiveCard
from ipython1.kernel.clusters.force import end_by_force
from ipython1.kernel.clusters.launch import (
    OwnedProcess,
    command_options,
    new_cluster_id,
    remove_files,
)
from ipython1.kernel.clusters.limits import (
    ANSWER_LIMIT,
    ANSWER_MARGIN,
    REMOVE_LIMIT,
    STOP_LIMIT,
)
from ipython1.kernel.clusters.monitorprocess import HasMonitor, Monitor
from ipython1.kernel.clusters.outcomes import check_started, deadline
from ipython1.kernel.clusters.presence import ipcluster_is_silent
from ipython1.kernel.clusters.restoring import Restored, check_restored, write_restored
from ipython1.kernel.clusters.startview import start_shown
from ipython1.kernel.clusters.status import (
    ClusterStatus,
    connect_to,
    read_state,
    wait_until_gone,
)
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.restorefile import RESTORE_FILE
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.launchers.clusterconfig import title_of
from ipython1.system import after_fork_in_child

if TYPE_CHECKING:
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient
    from ipython1.kernel.clients.taskclient import TaskClient

_running: weakref.WeakSet[Cluster] = weakref.WeakSet()


class BaseCluster(ClusterForms, CanAdapt, HasMonitor, CheckedAttributes):
    """What the blocking and the asynchronous cluster have in common."""

    _elsewhere = CLUSTER
    detach: Setting[bool] = Setting(False, yes_or_no)

    def __init__(
        self,
        n: int | None = None,
        kind: str | None = None,
        *,
        cluster_id: str | None = None,
        ipython_dir: str | os.PathLike[str] | None = None,
        detach: bool = False,
        restore: Restored | None = None,
        **options: Any,
    ) -> None:
        if n is not None:
            check_int("n", n, 0)
        self.detach = detach
        self._restore = check_restored(restore)
        self._kind = kind
        self._own_id = cluster_id is None
        self._cluster_id = new_cluster_id() if cluster_id is None else cluster_id
        self._files = ClusterFiles(IPythonDirs.resolve(ipython_dir), self.cluster_id)
        self._arguments = [
            *([kind] if kind else []),
            *([f"--engines={n}"] if n is not None else []),
            f"--ipython-dir={self.files.dirs.ipython_dir}",
            f"--cluster-id={self.cluster_id}",
            *(["--temporary"] if self._own_id else []),
            *self._restore_options(),
            *command_options(options),
        ]

    @property
    def kind(self) -> str | None:
        """The kind of cluster, a str; None if the ini file chooses it."""
        return self._kind

    @property
    def cluster_id(self) -> str:
        """The name under which ``ipcluster`` and clients find it."""
        return self._cluster_id

    @property
    def files(self) -> ClusterFiles:
        """The paths of its files."""
        return self._files

    def _restore_options(self) -> list[str]:
        if self._restore is None:
            return []
        return [f"--restore-file={self.files.security_file(RESTORE_FILE)}"]

    def _start_process(self) -> OwnedProcess:
        """Start ``ipcluster``.

        :raises SerializationError: if what is to be restored cannot be pickled.
        """
        if self._restore is not None:
            self.files.dirs.prepare()
            write_restored(self.files, self._restore)
        return OwnedProcess(self._arguments)

    def _wait_until_gone(self, owned: OwnedProcess | None, connected: bool) -> None:
        """Block until nothing is left of the cluster, and remove the files of one whose id was made up for it.

        :param owned: its ``ipcluster``, if it belongs to this process.
        :param connected: whether it has been told to stop; else there is nothing but ``owned`` to wait for.
        :raises ResultNotCompleted: if it takes longer than :data:`~ipython1.kernel.clusters.limits.STOP_LIMIT`.
        """
        if owned is not None and not owned.wait(STOP_LIMIT):
            raise ResultNotCompleted(
                f"the processes of {title_of(self.cluster_id)} did not end within {STOP_LIMIT:g} s"
            )
        if not connected:
            return
        if owned is None or owned.was_killed:
            wait_until_gone(self.files, STOP_LIMIT)
        if self._own_id:
            remove_files(self.files)

    def _end_by_force(self) -> None:
        """Kill all its processes, and remove its files."""
        state = read_state(self.files.state)
        if state is not None and state.is_here:
            end_by_force(self.files, state)

    def _explained(self, problem: ResultNotCompleted) -> ResultNotCompleted:
        """What did not come in time, with the reason if its ``ipcluster`` is stopped."""
        state = read_state(self.files.state)
        if state is None or not state.is_here or not state.is_stopped:
            return problem
        return ResultNotCompleted(f"{problem}; {ipcluster_is_silent(state.pid, True)}")


class Cluster(LiveCard, BaseCluster):
    """A controller and engines that end together, and with this process at the latest.

    :param n: the number of engines, 0 for those that are added later; by default that of the ini file, else as many as
        the hosts have that are named, else one for each core.
    :param kind: ``'local'``, ``'mpiexec'``, ``'ssh'``, ``'slurm'``, ``'sge'``, ``'pbs'``, ``'torque'``, ``'lsf'``,
        ``'htcondor'``, ``'flux'``, ``'kubernetes'``, or one that another package adds; by default that of the ini file.
    :param cluster_id: the name under which ``ipcluster`` and clients find it; made up when it is not given.
    :param ipython_dir: where its files are.
    :param detach: leave it running when this process ends.
    :param restore: what every engine runs (source text) or has (a dict of names and their objects) before it can be
        used, at its first start and when it is restarted.
    :param options: what ``ipcluster`` can be told, with underscores: ``mpi='mpi4py'``, ``queue='main'``,
        ``setup=['module load python']``, ...  For engines of every kind, ``env`` (a dict of environment variables),
        ``cwd`` (their working directory) and ``python`` (their interpreter).  With ``hosts``, engines run there, over
        ssh: a name, a list of names, or a dict of names and numbers of engines.

    In a ``with`` statement it is started and stopped; else call :meth:`start` and :meth:`stop`.

    :raises TypeError, ValueError: if ``n`` is not a whole number of 0 or more.
    :raises TypeError: if ``ipcluster`` has no option of that name.

    After :meth:`start`, every method raises :class:`~ipython1.kernel.error.ConnectionError` if the cluster has ended,
    and before it :class:`~ipython1.kernel.error.ClusterError`.
    """

    _owned: OwnedProcess | None = None
    _control: BlockingControl | None = None
    _attached = False

    # -- life

    def start(self, timeout: float | None = None) -> Cluster:
        """Start it; returns when every engine is usable or has failed, or after ``start_timeout`` (60 s by default).

        Where engines wait in the queue of a batch system, ``start_timeout`` begins with the first one that is usable.
        What the queue says is shown meanwhile.  It warns if some of the engines are not usable in the end; those that
        still wait in the queue join later.

        :param timeout: seconds for everything, the time in the queue included; None for no limit.
        :returns: the cluster itself.
        :raises ClusterError: if it is already started, if there is no controller, or if no engine comes up; with what
            they said last.
        :raises ResultNotCompleted: if no engine is usable after ``timeout`` seconds.  The cluster is stopped then, and
            its jobs are cancelled.
        """
        check_limit(timeout)
        if self._control is not None:
            raise ClusterError(f"{title_of(self.cluster_id)} is already started")
        owned = self._owned = self._start_process()
        self._control = BlockingControl(owned.connection)
        _running.add(self)
        try:
            limit = None if timeout is None else timeout + ANSWER_MARGIN
            with start_shown(self._control, limit):
                outcome = self._control.call("started", limit, until=deadline(timeout))
            check_started(outcome, timeout)
            if self.detach:
                self._control.call("detach")
                owned.detach()
                self._owned = None
        except ConnectionError:
            problem = owned.error()
            self.stop()
            raise problem from None
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, force: bool = False) -> None:
        """End it and everything that it started; returns when that is gone.  Nothing happens when it has ended.

        :param force: kill everything at once, even if its ``ipcluster`` is stopped or stuck.
        :raises ResultNotCompleted: if its processes do not end within 60 s.
        """
        if check_bool("force", force):
            self._end_by_force()
        self._close_monitor()
        control, self._control = self._control, None
        owned, self._owned = self._owned, None
        _running.discard(self)
        if control is not None:
            try:
                control.call("stop", STOP_LIMIT)
                control.wait_closed(STOP_LIMIT)
            except ConnectionError:
                pass  # it has ended
            except ResultNotCompleted as problem:
                raise self._explained(problem) from None
            finally:
                control.close()
        self._wait_until_gone(owned, control is not None)

    def __enter__(self) -> Cluster:
        return self if self._control is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._attached or self.detach:
            self.close()
        else:
            self.stop()

    def close(self) -> None:
        """Give up the connection; the cluster goes on if it is detached or was attached to."""
        self._close_monitor()
        control, self._control = self._control, None
        _running.discard(self)
        if control is not None:
            control.close()

    @classmethod
    def attach(
        cls, cluster_id: str = "", *, ipython_dir: str | os.PathLike[str] | None = None
    ) -> Cluster:
        """A cluster that runs already, started by ``ipcluster`` or another program on this host.

        It goes on when this process ends.

        :param cluster_id: the name of the cluster; empty for the one that was started without a name.
        :param ipython_dir: where its files are; by default ``$IPYTHONDIR``, else ``~/.ipython``.
        :raises ClusterError: if there is no such cluster, or it runs on another host.
        :raises ConnectionError: if it does not answer.
        """
        cluster = cls(cluster_id=cluster_id, ipython_dir=ipython_dir)
        cluster._arguments = []
        cluster._attached = True
        cluster._control = BlockingControl(connect_to(cluster.files))
        _running.add(cluster)
        cluster._kind = cluster.status().kind
        return cluster

    # -- clients

    def multiengine(self, timeout: float = 10.0) -> MultiEngineClient:
        """Connect a new ``MultiEngineClient`` to it.

        :param timeout: seconds within which the connection must be made.
        :raises ConnectionError: if nobody answers in that time.
        """
        from ipython1.kernel.clients.multiengineclient import MultiEngineClient

        return MultiEngineClient(str(self.files.multiengine_furl), timeout)

    def task(self, timeout: float = 10.0) -> TaskClient:
        """Connect a new ``TaskClient`` to it.

        :param timeout: seconds within which the connection must be made.
        :raises ConnectionError: if nobody answers in that time.
        """
        from ipython1.kernel.clients.taskclient import TaskClient

        return TaskClient(str(self.files.task_furl), timeout)

    def monitor(self) -> Monitor:
        """Serve a web page that shows what the cluster does; in a notebook the result is shown as a link to it.

        The page cannot change anything.  It is served to this host only, and ends with the cluster, with this
        process, and when the result's ``close()`` is called.

        :returns: an object with the address in ``url``; the same one as before if that is not closed.
        """
        self._check_is_started()
        return self._open_monitor()

    # -- engines

    @property
    def ids(self) -> list[int]:
        """The ids of the engines that are usable now."""
        return list(self.status().ids)

    def status(self) -> ClusterStatus:
        """Everything that is known of it and its processes.

        :raises ResultNotCompleted: if it does not answer within 30 s.
        """
        return ClusterStatus.from_json(self._call("status"))

    def add_engines(
        self, n: int | None = None, kind: str | None = None, **options: Any
    ) -> list[int]:
        """Start more engines; returns when each is usable or has failed, or after ``start_timeout``.

        It warns if some of them are not usable then.

        :param n: how many; by default as many as ``hosts`` or ``cluster_file`` say, else one.
        :param kind: how they are started, if in another way than the first.
        :param options: as those of the cluster; what is not given is as it was for the first.
        :returns: the ids of those that are usable.
        :raises TypeError, ValueError: if ``n`` is not a whole number of 1 or more.
        :raises TypeError: if there is no option of that name.
        :raises ClusterError: if none comes up, if an option means nothing for that kind, or if they may run on other
            hosts and the controller listens for this one only.
        """
        outcome = self._call("add", None, **addition(n, kind, options))
        check_started(outcome)
        return list(outcome["ids"])

    def remove_engines(self, ids: int | Iterable[int], finish: float = FINISH) -> None:
        """End engines; returns when they are gone.

        :param ids: an id, or several.
        :param finish: seconds to finish what they run; a task that takes longer runs again on another engine.
        :raises TypeError: if ``ids`` is something else.
        :raises InvalidEngineID: if there is no such engine.
        :raises ClusterError: if they end only together with others (engines of one MPI job).
        :raises ResultNotCompleted: if they are not gone after 90 s.
        """
        limit = check_seconds("finish", finish) + REMOVE_LIMIT
        self._call("remove", limit, ids=id_list(ids), within=finish)

    def restart_engine(self, id: int, finish: float = FINISH) -> None:
        """End an engine and start it again under its id; returns when it is usable.

        :param id: the engine's id.
        :param finish: seconds to finish what it runs; a task that takes longer runs again on another engine.
        :raises TypeError: if ``id`` is something else.
        :raises InvalidEngineID: if there is no such engine.
        :raises ClusterError: if an engine of this kind cannot be restarted (those of MPI and batch jobs), if it is
            removed meanwhile, or if it does not come up.
        :raises ResultNotCompleted: if it is not usable after ``start_timeout``.
        """
        check_seconds("finish", finish)
        self._call("restart", None, engine=engine_id(id), within=finish)

    def restart_controller(self) -> None:
        """End the controller in good order and start it again; returns when it listens.

        Engines keep their names, and clients and what they wait for go on by themselves.

        :raises ClusterError: if the cluster did not start the controller, or it does not come up.
        :raises ResultNotCompleted: if it is not usable after ``start_timeout``.
        """
        self._call("restart_controller", None)

    def wait_for_engines(self, n: int | None = None, timeout: float | None = None) -> list[int]:
        """Wait until enough engines are usable.

        :param n: how many; None for all that were asked for.
        :param timeout: seconds; None for no limit.
        :returns: the ids of all engines that are usable.
        :raises TypeError, ValueError: if ``n`` is not a whole number of 0 or more.
        :raises ResultNotCompleted: if there are not enough after that time.
        :raises ClusterError: as soon as it is certain that they do not come.
        """
        if n is not None:
            check_int("n", n, 0)
        check_limit(timeout)
        limit = None if timeout is None else timeout + ANSWER_MARGIN
        return list(self._call("wait", limit, count=n, seconds=timeout))

    def signal(self, ids: int | Iterable[int] | str, sig: int | str) -> None:
        """Send a signal to the processes of engines.

        :param ids: an id, several, or ``'all'``.
        :param sig: its number or name (``'SIGUSR1'``).
        :raises TypeError: if ``ids`` is something else.
        :raises ValueError: if there is no such signal.
        :raises InvalidEngineID: if there is no such engine.
        :raises ClusterError: if engines of this kind cannot be signalled one by one.
        """
        chosen = None if ids == "all" else id_list(ids)
        self._call("signal", ids=chosen, number=osprocess.signal_number(sig))

    def logs(self, id: int | None = None, lines: int = 100) -> str:
        """The last lines of a log.

        :param id: the engine's id; None for the controller.
        :param lines: how many lines at most.
        :returns: the lines, joined; empty if there is no log yet.
        :raises TypeError: if ``id`` or ``lines`` is not a whole number.
        :raises ValueError: if ``lines`` is less than 1.
        :raises InvalidEngineID: if there is no such engine.
        :raises ClusterError: if it is not known where that engine logs to.
        """
        check_int("lines", lines, 1)
        return "\n".join(
            self._call("logs", engine=None if id is None else engine_id(id), lines=lines)
        )

    def _check_is_started(self) -> BlockingControl:
        if self._control is None:
            raise ClusterError(
                f"{title_of(self.cluster_id)} is not started; call start(), or use it in a with statement"
            )
        return self._control

    def _call(self, do: str, timeout: float | None = ANSWER_LIMIT, **arguments: Any) -> Any:
        control = self._check_is_started()
        try:
            return control.call(do, timeout, **arguments)
        except ResultNotCompleted as problem:
            raise self._explained(problem) from None


def _disown_in_child() -> None:
    """A forked child has no clusters: it must neither end those of its parent nor remove their files."""
    for cluster in list(_running):
        cluster._control = cluster._owned = cluster._monitor = None
    _running.clear()


after_fork_in_child(_disown_in_child)


@atexit.register
def _stop_all() -> None:
    for cluster in list(_running):
        if cluster.detach or cluster._attached:
            cluster.close()
        else:
            cluster.stop()
