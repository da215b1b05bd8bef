"""Reads and writes an established TLS connection with few system calls, copies, and steps of Python.

Twisted's TLS makes an object of what each read brings, another of each 16 KiB that are decrypted, and two of each
16 KiB that are encrypted, and waits for the reactor to send them.  :class:`TLSStream` uses the same OpenSSL connection
and the same socket, but keeps to buffers that the process has once: a read is decrypted straight into the message that
it belongs to, and a whole message is encrypted and sent at once, as far as the operating system takes it.

Everything else stays with Twisted: the handshake, closing, errors, what the other code writes, and what the operating
system does not take, which waits in the transport's own buffer.  So both may be used in turn, and their bytes stay in
order.

It needs objects that pyOpenSSL does not document.  Where they are missing, for transports of another kind, and with
``IPYTHON1_FAST_TRANSPORT=0`` in the environment, :func:`attach` returns None and Twisted does all.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from types import MethodType
from typing import Any, Final, Protocol

from OpenSSL import SSL
from twisted.internet import main, tcp
from twisted.internet.abstract import FileDescriptor
from twisted.protocols.tls import TLSMemoryBIOProtocol

from ipython1.kernel.tub.bananawire import Incoming, Part

ENABLED: Final = os.environ.get("IPYTHON1_FAST_TRANSPORT", "1") != "0"

RECORD: Final = 16384
"""Bytes that one TLS record carries at most."""

READ_AT_ONCE: Final = 8 * RECORD
"""Bytes that are read from a socket at a time; few enough to be decrypted while they are in the processor's cache."""

MOST_READS: Final = 2
"""How often that is done in a turn, while there is more."""

AT_ONCE: Final = 16 * RECORD
"""Bytes that are encrypted at a time."""

SEND_AT: Final = AT_ONCE + 2 * RECORD
"""Bytes that are encrypted before they are sent; thus a piece of a bulk transfer leaves together with its frame."""

_MOST_PARTS: Final = 32
"""Pieces of waiting data that are sent with one system call."""

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)
_SUPPORTED: Final = (
    all(
        hasattr(_lib, name)
        for name in (
            *("SSL_read", "SSL_write", "SSL_get_error", "SSL_clear_mode", "SSL_set_bio"),
            *("BIO_new", "BIO_new_mem_buf", "BIO_s_mem", "BIO_set_mem_eof_return"),
            *("BIO_read", "BIO_write"),
            *("SSL_ERROR_WANT_READ", "SSL_MODE_ENABLE_PARTIAL_WRITE"),
        )
    )
    and hasattr(_ffi, "from_buffer")
    and hasattr(socket.socket, "sendmsg")
)


class Receiver(Protocol):
    """Who gets what is read."""

    @property
    def incoming(self) -> Incoming | None:
        """The message whose payload the next bytes belong to, if that is known."""

    def dataReceived(self, chunk: bytes) -> None:
        """Bytes came, other than those that were put into :attr:`incoming`."""


# All streams of a process use these, one after the other, in the reactor's thread.
_received = memoryview(bytearray(READ_AT_ONCE))
_plain = memoryview(bytearray(RECORD))
_encrypted = memoryview(bytearray(2 * AT_ONCE))
_at_received: Any = _ffi.from_buffer(_received) if _SUPPORTED else None
_at_plain: Any = _ffi.from_buffer(_plain) if _SUPPORTED else None
_at_encrypted: Any = _ffi.from_buffer(_encrypted) if _SUPPORTED else None


def write_through(transport: Any) -> None:
    """Make Twisted encrypt what others write at once, so that it keeps its place; call this when TLS begins."""
    tls = transport.protocol
    tls.write = MethodType(TLSMemoryBIOProtocol.write, tls)


def attach(transport: Any, receiver: Receiver) -> TLSStream | None:
    """Take over reading and writing of a connection whose handshake is done; None if that is not possible."""
    tls = getattr(transport, "protocol", None)
    if (
        not ENABLED
        or not _SUPPORTED
        or not isinstance(transport, tcp.Connection)
        or not isinstance(tls, TLSMemoryBIOProtocol)
        or not tls._handshakeDone
        or tls._appSendBuffer
    ):
        return None
    connection = tls.getHandle()
    if getattr(connection, "_into_ssl", None) is None or getattr(connection, "_ssl", None) is None:
        return None
    return TLSStream(transport, connection, receiver)


def _fill(ssl: Any, incoming: Incoming) -> int:
    """Decrypt what belongs to a message into its memory; return what OpenSSL said last."""
    read = _lib.SSL_read
    address = _ffi.from_buffer(incoming.memory)
    filled, end = incoming.filled, incoming.size
    while True:
        size: int = read(ssl, address + filled, end - filled)
        if size <= 0:
            break
        filled += size
        if filled == end:
            break
    incoming.filled = filled
    return size


class TLSStream:
    """One connection; see the module's docstring."""

    __slots__ = (
        *("_borrowing", "_connection", "_from", "_into", "_receiver", "_socket", "_ssl", "_tls"),
        "_transport",
    )

    def __init__(self, transport: Any, connection: Any, receiver: Receiver) -> None:
        self._transport = transport
        self._receiver: Receiver | None = receiver
        self._tls = transport.protocol
        self._socket = transport.socket
        self._connection = connection
        self._ssl = connection._ssl
        self._into = connection._into_ssl
        self._borrowing = False
        self._from = connection._from_ssl
        # A write of many records is one call.
        _lib.SSL_clear_mode(self._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
        transport.doRead = self._read
        transport.doWrite = self._send_waiting

    def close(self) -> None:
        """The connection is lost; let go of it."""
        self._receiver = None
        self._transport = self._tls = self._socket = self._connection = None
        self._ssl = self._into = self._from = None

    # -- reading

    def _read(self) -> Exception | None:
        """Read what has come; called by the reactor."""
        for _ in range(MOST_READS):
            if self._receiver is None:
                break
            try:
                count = self._socket.recv_into(_received)
            except BlockingIOError:
                break
            except OSError:
                return main.CONNECTION_LOST
            if not count:
                return main.CONNECTION_DONE
            if not self._hand_over(count):
                return main.CONNECTION_LOST
            self._decrypt(self._receiver)
            if count < len(_received):
                break
        return None

    def _decrypt(self, receiver: Receiver) -> None:
        """Give the receiver all that OpenSSL has."""
        ssl, tls = self._ssl, self._tls
        while not tls._lostTLSConnection:
            incoming = receiver.incoming
            if incoming is None:
                size = _lib.SSL_read(ssl, _at_plain, RECORD)
                if size > 0 and not tls._aborted:
                    receiver.dataReceived(_plain[:size].tobytes())
            else:
                size = _fill(ssl, incoming)
            if self._ssl is None:
                break  # what came closed the connection
            if size <= 0:
                self._nothing_read(ssl, size)
                break

    def _hand_over(self, count: int) -> bool:
        """Have OpenSSL read the ``count`` bytes that were received next; it has read all before them."""
        if count < RECORD and not self._borrowing:
            return bool(_lib.BIO_write(self._into, _at_received, count) == count)
        # Much is read where it is; little is copied, which costs less than a new BIO.
        self._borrowing = count >= RECORD
        if self._borrowing:
            bio = _lib.BIO_new_mem_buf(_at_received, count)
        else:
            bio = _lib.BIO_new(_lib.BIO_s_mem())
        if bio == _ffi.NULL:
            return False
        # Its end is not that of the connection.
        _lib.BIO_set_mem_eof_return(bio, -1)
        _lib.SSL_set_bio(self._ssl, bio, self._from)
        self._into = self._connection._into_ssl = bio
        return self._borrowing or bool(_lib.BIO_write(bio, _at_received, count) == count)

    def _nothing_read(self, ssl: Any, result: int) -> None:
        tls = self._tls
        if _lib.SSL_get_error(ssl, result) == _lib.SSL_ERROR_WANT_READ:
            self._send()  # an answer that OpenSSL gives by itself
        else:
            # Twisted gets the same again, and handles it.
            tls._flushReceiveBIO()

    # -- writing

    def write(self, parts: Sequence[Part], size: int) -> None:
        """Send ``parts``, about ``size`` bytes, as one message; nothing if the connection is being closed."""
        transport = self._transport
        if transport is None or not transport.connected or transport.disconnecting:
            return
        if self._tls.disconnecting:
            return
        if size < RECORD:
            self._encrypt(b"".join(parts), 0)
        else:
            self._encrypt_large(parts)
        self._send()

    def _encrypt_large(self, parts: Sequence[Part]) -> None:
        held: list[Part] = []
        size = waiting = 0
        for part in parts:
            length = len(part) if type(part) is bytes else memoryview(part).nbytes
            if length < RECORD:
                held.append(part)
                size += length
                continue
            # What precedes a large part goes out in records that it fills up; its end goes with what follows.
            view = memoryview(part).cast("B")
            begin = -size % RECORD
            held.append(view[:begin])
            waiting = self._encrypt(b"".join(held), waiting)
            end = length - (length - begin) % RECORD
            waiting = self._encrypt(view[begin:end], waiting)
            held = [view[end:]]
            size = length - end
        self._encrypt(b"".join(held), waiting)

    def _encrypt(self, data: Part, waiting: int) -> int:
        """Encrypt ``data``, and send what is encrypted whenever that is much; return how much is then."""
        view = memoryview(data)
        while view:
            part, view = view[:AT_ONCE], view[AT_ONCE:]
            size = len(part)
            if waiting + size > SEND_AT:
                self._send()
                waiting = 0
            if _lib.SSL_write(self._ssl, _ffi.from_buffer(part), size) != size:
                # Twisted gets the same error, and handles it.
                self._tls.write(bytes(part))
            waiting += size
        return waiting

    def _send(self) -> None:
        """Send what is encrypted; the reactor sends the rest."""
        transport = self._transport
        count = _lib.BIO_read(self._from, _at_encrypted, len(_encrypted))
        if count <= 0:
            return
        sent = 0
        if not transport._tempDataLen and not transport.dataBuffer:
            try:
                sent = self._socket.send(_encrypted[:count])
            except OSError:
                pass  # the reactor gets the same error when it tries, and handles it
        if sent < count:
            FileDescriptor.write(transport, _encrypted[sent:count].tobytes())

    def _send_waiting(self) -> Any:
        """Send what waits in the transport's buffer without joining it; called by the reactor."""
        transport = self._transport
        if transport is None:
            return None
        waiting = transport._tempDataBuffer
        if waiting and not transport.dataBuffer:
            try:
                sent = self._socket.sendmsg(waiting[:_MOST_PARTS])
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                return main.CONNECTION_LOST
            transport._tempDataLen -= sent
            done = 0
            for part in waiting:
                if sent < len(part):
                    break
                sent -= len(part)
                done += 1
            if sent:
                waiting[done] = memoryview(waiting[done])[sent:]
            del waiting[:done]
            if waiting:
                return None
        # Twisted does what is to be done when all has been sent.
        return FileDescriptor.doWrite(transport)
