"""The part of ``--check`` about this machine: its size, and what of its system can be used."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from typing import Final

from ipython1.daemon import osprocess
from ipython1.kernel.host.hosts import user_label
from ipython1.kernel.scripts.findings import Finding, within_limit
from ipython1.kernel.watching.amounts import bytes_text
from ipython1.system import resource

GROUP: Final = "this machine"
PATIENCE: Final = 5.0
"""Seconds to wait for a connection to this machine itself."""


def check_machine() -> Iterator[Finding]:
    """Look at one thing after the other, with imports in each that needs some: a package may be missing."""
    yield within_limit(GROUP, "system", _system)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    yield Finding(GROUP, "cores", "ok", f"{cores}; so many engines are started by default")
    yield within_limit(GROUP, "memory", _memory)
    yield within_limit(GROUP, "loopback", loopback, "bad")
    yield within_limit(GROUP, "TLS", handshake, "bad")
    yield within_limit(GROUP, "address", _address)
    yield within_limit(GROUP, "shared memory", shared_memory)
    yield _open_files()
    warm = osprocess.can_fork_warm()
    text = (
        "processes are forked from a warm one"
        if warm
        else "each process starts anew, which takes longer"
    )
    yield Finding(GROUP, "fast starts", "ok" if warm else "missing", text)
    linux = osprocess.is_linux()
    text = "the system ends what a process leaves behind" if linux else "found through psutil"
    yield Finding(GROUP, "no orphans", "ok" if linux else "missing", text)


def _system() -> Finding:
    return Finding(GROUP, "system", "ok", f"{platform.platform()}, {user_label()}")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{bytes_text(memory.available)} of {bytes_text(memory.total)} are free"
    return Finding(GROUP, "memory", "ok", text)


def loopback() -> Finding:
    """Listen, connect, and send something.

    :raises OSError: if that is not possible.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(PATIENCE)
            address = server.getsockname()
            with socket.create_connection(address, PATIENCE) as client:
                accepted, _ = server.accept()
                with accepted:
                    client.sendall(b"?")
                    accepted.settimeout(PATIENCE)
                    right = accepted.recv(1) == b"?"
    except OSError as problem:
        text = f"127.0.0.1: {problem.strerror or problem}; look at lo (ip address) and at firewalls"
        return Finding(GROUP, "loopback", "bad", text)
    text = "listens on 127.0.0.1, and is reached" if right else "127.0.0.1 answers something else"
    return Finding(GROUP, "loopback", "ok" if right else "bad", text)


def handshake() -> Finding:
    """Make a certificate, and shake hands with oneself, as a controller and an engine do.

    :raises Exception: of pyOpenSSL or cryptography, if that is not possible.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from OpenSSL import SSL

    from ipython1.kernel.host.certificates import make_certificate

    pem = make_certificate()
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_privatekey(load_pem_private_key(pem, None))  # type: ignore[arg-type]
    context.use_certificate(x509.load_pem_x509_certificate(pem))
    here, there = SSL.Connection(context, None), SSL.Connection(context, None)
    here.set_connect_state()
    there.set_accept_state()
    for _ in range(10):
        for one, other in ((here, there), (there, here)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass
    version = here.get_protocol_version_name()
    right = version in ("TLSv1.2", "TLSv1.3") and there.get_cipher_name() is not None
    library = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()
    advice = "" if right else "; reinstall pyOpenSSL and cryptography"
    return Finding(GROUP, "TLS", "ok" if right else "bad", f"{version}, {library}{advice}")


def shared_memory() -> Finding:
    """Make some, and read it.

    :raises OSError: if the system does not allow it.
    """
    from ipython1.kernel.host import sharedmemory

    if not sharedmemory.is_available():
        off = os.environ.get(sharedmemory.SWITCH) == "0"
        why = f"${sharedmemory.SWITCH} is 0" if off else "this system has none that can be used"
        return Finding(
            GROUP, "shared memory", "missing", f"{why}; large objects travel through sockets"
        )
    memory = sharedmemory.SharedMemory(4096)
    try:
        memory.view[:1] = b"?"
        right = bytes(sharedmemory.map_readable(memory.fd)[:1]) == b"?"
    finally:
        memory.close()
    text = "large objects between processes of this machine are not copied"
    return Finding(GROUP, "shared memory", "ok" if right else "missing", text)


def _open_files() -> Finding:
    if resource is None:
        return Finding(GROUP, "open files", "ok", "no limit")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding(GROUP, "open files", "ok", "no limit")
    text = f"{hard:,} at most; a controller needs one for each engine and client"
    return Finding(GROUP, "open files", "ok" if hard >= 1024 else "missing", text)


def _address() -> Finding:
    name = socket.gethostname()
    try:
        address = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as problem:
        text = f"{name} cannot be resolved ({problem.strerror}); other hosts need --client-location"
        return Finding(GROUP, "address", "missing", text)
    return Finding(GROUP, "address", "ok", f"{name} is {address}")
