"""Names that other packages for parallel computing have for what clients and pending results do."""

from __future__ import annotations

from typing import Final

_VIEWS: Final = "an index makes a view: mec[:] of all engines, mec[0] of one, mec[[0, 2]] of two"
_TASKS: Final = "client.TaskClient() balances the load"
_PICKLE: Final = "functions of your session, lambdas and closures are sent as they are"
_BLOCK: Final = "it waits if block is True, and returns a pending result if it is False"

MULTIENGINE: Final = {
    # ipyparallel
    "abort": "abort() of a pending result ends that call; interrupt() interrupts what engines run",
    "apply_async": f"use apply() of a client or view: {_BLOCK}",
    "apply_sync": f"use apply() of a client or view: {_BLOCK}",
    "become_distributed": "use become_dask()",
    "broadcast_view": _VIEWS,
    "client": "a view has all methods of its client",
    "db_query": "history() lists earlier calls",
    "direct_view": _VIEWS,
    "get": "use mec[name], or pull(name)",
    "hub_history": "use history()",
    "imap": "use map(..., block=False), and iterate over what it returns",
    "load_balanced_view": _TASKS,
    "map_async": "use map(..., block=False)",
    "map_sync": "use map(..., block=True)",
    "outstanding": "pending lists the calls that are not done",
    "purge_everything": "flush() drops results that were not read",
    "purge_results": "flush() drops results that were not read",
    "remote": "apply(f, ...) calls a function on each engine; parallel() makes one that maps itself",
    "resubmit": "TaskClient has resubmit()",
    "send_signal": "interrupt() does what Ctrl-C would",
    "shutdown": "kill() ends engines, kill(controller=True) the controller as well; close() ends only the client",
    "signal_engines": "interrupt() does what Ctrl-C would",
    "spin": "results come by themselves",
    "stop_distributed": "use Cluster or kill()",
    "update": "use push(namespace)",
    "use_cloudpickle": _PICKLE,
    "use_dill": _PICKLE,
    "use_pickle": _PICKLE,
    "wait": "barrier() waits for pending results; each has a wait(), too",
    "wait_interactive": "a pending result has wait_interactive()",
    # dask, ray, concurrent.futures, multiprocessing
    "as_completed": "a pending result has as_completed()",
    "compute": "give dask an executor: dask.compute(..., pool=mec.executor())",
    "has_what": "keys() lists the names on the engines",
    "imap_unordered": "use map(..., block=False), and iterate over as_completed() of what it returns",
    "nthreads": "ids are the engines; each runs one thing at a time",
    "persist": "give dask an executor: dask.compute(..., pool=mec.executor())",
    "put": "use push(namespace), or mec[name] = value",
    "scheduler_info": "use ids, queue_status() and stacks()",
    "set": "use push(namespace), or mec[name] = value",
    "starmap": "use map(f, *zip(*rows))",
    "submit": f"apply() calls a function on each engine, executor().submit() on one; {_TASKS}",
    "wait_for_workers": "use wait_for_engines(n)",
    "workers": "ids are the engines",
}

TASKS: Final = {
    "apply": "use submit(f, ...)",
    "apply_async": "use submit(f, ...)",
    "apply_sync": "use submit(f, ...).result()",
    "cancel": "use abort(taskid)",
    "compute": "give dask an executor: dask.compute(..., pool=tc.executor())",
    "direct_view": "client.MultiEngineClient() runs code on engines that you choose",
    "gather": "get_task_result() and as_completed() give results",
    "get_result": "use get_task_result(taskid, block=True)",
    "imap_unordered": "use imap(..., ordered=False)",
    "load_balanced_view": "a TaskClient balances the load itself",
    "map_async": "use map(..., block=False)",
    "map_sync": "use map(...)",
    "map_unordered": "use imap(..., ordered=False)",
    "outstanding": "queue_status(verbose=True) lists ids",
    "result": "use get_task_result(taskid, block=True)",
    "starmap": "use map(f, *zip(*rows))",
    "wait": "use barrier(taskids)",
}

PENDING: Final = {
    "completed": "see ready, and progress",
    "display_outputs": "see stdout and stderr",
    "elapsed": "use wall_time, in seconds",
    "engine_id": "use engine_ids",
    "error": "use exception() for the error, failures() for those so far, stderr for what was written",
    "errors": "use failures()",
    "iter_timeout": "iterate over it, and use wait(timeout)",
    "join": "use wait()",
    "kill": "use abort()",
    "metadata": "see wall_time, serial_time, stdout and stderr; what execute returns has times of each engine",
    "msg_ids": "the client's history() lists calls with their ids",
    "output": "use stdout",
    "outstanding": "use unfinished",
    "sent": "a call with block=False has reached the controller when it returns",
    "status": "see ready, and progress",
    "then": "use add_callback()",
    "value": "use result(), or r",
    "values": "use result(), or r",
    "wait_for": "use wait(timeout), or get_result(timeout=...)",
    "wait_for_output": "output comes with the result",
    "wait_for_send": "a call with block=False has reached the controller when it returns",
}
