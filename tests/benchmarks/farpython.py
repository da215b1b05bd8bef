"""A Python for hosts that are really this machine: it has already been started, as if each had processors of its own.

Starting Python and importing what an engine needs takes more than a second of processor time.  Hosts do that at the
same time; 40 hosts that are one machine do it one after the other.  Here, one process does it once, and is then forked
for each login::

    with FarPython(directory) as python:
        ...  # python.path is an interpreter that only understands ``-c CODE ARGUMENT...``

``python -m tests.benchmarks.farpython SOCKET`` is that process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_SHIM = """#!{python} -IS
import _socket, _struct, os, sys
there = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
there.connect({socket!r})
files = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _struct.pack("iii", 0, 1, 2))]
text = "\\0".join([os.getcwd(), *sys.argv[2:], "", *(f"{{k}}={{v}}" for k, v in os.environ.items())])
data = text.encode()
there.sendmsg([_struct.pack("I", len(data))], files)
there.sendall(data)
for each in (0, 1, 2):
    os.close(each)
while there.recv(1):
    pass
"""


class FarPython:
    """See the module's text.

    :param directory: where to put the interpreter and its socket.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "farpython"
        self._socket = directory / "far.sock"

    def __enter__(self) -> FarPython:
        shim = _SHIM.format(python=sys.executable, socket=str(self._socket))
        self.path.write_text(shim)
        self.path.chmod(0o700)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._socket)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError("the Python for far hosts did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _serve(path: str) -> None:
    from ipython1.daemon import nanny  # noqa: F401 - imported for those that are forked
    from ipython1.daemon.children import import_program
    from ipython1.kernel.launchers.programs import ENGINE_MODULE

    import_program(ENGINE_MODULE)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(100)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            head, files, _, _ = socket.recv_fds(connection, 4, 3)
            data = b""
            while len(data) < int.from_bytes(head, sys.byteorder):
                data += connection.recv(65536)
            if os.fork() == 0:
                listener.close()
                _become(data.decode(), files)
            for each in files:
                os.close(each)


def _become(text: str, files: list[int]) -> None:
    """Run code as an interpreter does; the process ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for number, each in enumerate(files):
        os.dup2(each, number)
        os.close(each)
    call, _, environ = text.partition("\0\0")
    cwd, code, *arguments = call.split("\0")
    os.chdir(cwd)
    os.environ.clear()
    for each in environ.split("\0"):
        name, _, value = each.partition("=")
        os.environ[name] = value
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve(sys.argv[1])
