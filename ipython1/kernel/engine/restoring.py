"""Preparing an engine before clients can use it: what ``Cluster(restore=...)`` says, at every start."""

from __future__ import annotations

import sys
from pathlib import Path

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.host.restorefile import SOURCE, read_restore
from ipython1.kernel.objects.commands import PUSH
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import pack_sizes, unpack_sizes


def restore(service: EngineService, path: Path) -> None:
    """Run the source text in a restore file or set its names, in the main thread; what that prints is dropped.

    :raises ClientError: if it raises; the traceback is on standard error.
    """
    kind, content = read_restore(path)
    step = _run if kind == SOURCE else _set
    failure = service.interpreter.call(step, (service, content)).failure
    if failure is None:
        return
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"{failure.traceback.rstrip()}\n")
    where = f" ({failure.line})" if failure.line else ""
    raise ClientError(
        f"what the cluster is to restore fails, so this engine cannot be used: {failure.ename}: {failure.evalue}{where}"
    )


def _run(service: EngineService, content: bytes) -> None:
    __tracebackhide__ = True
    with service.calling():
        service.run_source(content.decode())


def _set(service: EngineService, content: bytes) -> None:
    __tracebackhide__ = True
    buffers: list[Buffer] = []
    sizes = unpack_sizes(content)
    view = memoryview(content)[len(pack_sizes([b""] * len(sizes))) :]
    for size in sizes:
        buffers.append(view[:size])
        view = view[size:]
    with service.calling():
        service.push(*PUSH.arguments.unpack(buffers, service))
