"""Platform-specific calls on TCP sockets, each with a portable fallback.

Dead hosts and broken networks are detected by this host's operating system, not by our own messages: a process that
is stopped or busy in a C call still has an operating system that answers, and must not be declared dead (``tune``).

On Linux this takes two options.  Keepalive probes idle connections.  ``TCP_USER_TIMEOUT`` limits how long sent data
may stay unacknowledged; without it, a network that drops all packets is detected only after a quarter of an hour.
But it also closes a connection whose receiver keeps its window closed for that long while its operating system
answers every probe, and a busy process with a full receive buffer looks just like this.  :class:`PeerWatch`, asked
every few seconds, lifts the limit for such a connection and restores it afterwards.  Meanwhile it looks itself whether
the probes are answered.  Linux sends these at growing intervals, up to two minutes, so that a host that dies with a
closed window is noticed late; from Linux 6.15 on ``TCP_RTO_MAX_MS`` makes the intervals short.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

from ipython1.system import O_CLOEXEC, after_fork_in_child

DEAD_AFTER = 30.0
"""Seconds without an answer from a host after which its connections are closed."""

PROBES = 6
"""The number of steps that this time is divided into; each further silent step sends one more probe."""

_TCP_INFO = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
_KEEP_IDLE = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))

_TCP_RTO_MAX_MS = 44 if sys.platform == "linux" else None  # not in Python's module yet

# Of Linux's struct tcp_info: state, ca_state, retransmits, probes, backoff, options, two bytes of bit fields; rto, ato,
# snd_mss, rcv_mss, unacked (32 bits each); and, at the offset of segs_in, how many segments have come.
_INFO = struct.Struct("=8B5I")
_SEGMENTS_IN = struct.Struct("=I")
_SEGMENTS_OFFSET = 140


def tune(sock: socket.socket, dead_after: float = DEAD_AFTER) -> None:
    """Send small messages immediately, and close the connection if the other host is silent too long.

    Options that the platform lacks are skipped; keepalive is available everywhere.

    :param dead_after: the seconds of silence.
    """
    step = max(1, int(dead_after / PROBES))
    _set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set(sock, socket.IPPROTO_TCP, _KEEP_IDLE, 2 * step)
    _set(sock, socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), step)
    _set(sock, socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), PROBES - 2)
    _set(sock, socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, step * 1000)
    _set_user_timeout(sock, dead_after)


class PeerWatch:
    """Keeps a connection open while the other process does not read but its operating system answers.

    ======  =====================================================  ================================================
    state   meaning                                                becomes
    ======  =====================================================  ================================================
    quiet   the operating system limits the silence                busy, if the other side keeps its window closed
    busy    no limit; probes of the closed window are answered     quiet, if the window is open again;
                                                                   asked, if the last probe is not answered
    asked   the same, and nothing has come since that probe        busy, if anything comes; after some seconds silent
    silent  the other host is gone; the caller closes the
            connection
    ======  =====================================================  ================================================

    On platforms without ``TCP_USER_TIMEOUT`` it is always quiet.
    """

    INTERVALS = PROBES
    """How often to :meth:`look` per ``dead_after`` seconds."""

    def __init__(self, sock: socket.socket, dead_after: float = DEAD_AFTER) -> None:
        self._sock = sock
        self._dead_after = dead_after
        self._limited = True
        self._asked: tuple[float, int] | None = None

    @property
    def busy(self) -> bool:
        """Whether the other side did not read when one last looked."""
        return not self._limited

    def look(self, now: float) -> bool:
        """Look at the connection; return False if the other host is silent.

        :param now: seconds, by a clock that only goes forward.
        """
        if _TCP_INFO is None or _TCP_USER_TIMEOUT is None:
            return True
        try:
            raw = self._sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
            _, _, _, unanswered, backoff, _, _, _, _, _, _, _, unacknowledged = _INFO.unpack_from(
                raw
            )
            segments = _SEGMENTS_IN.unpack_from(raw, _SEGMENTS_OFFSET)[0]
        except (OSError, struct.error):
            return True
        busy = backoff > 0 and unacknowledged == 0
        if busy == self._limited:
            self._limited = not busy
            _set_user_timeout(self._sock, 0 if busy else self._dead_after)
        if not busy or not unanswered:
            self._asked = None
        elif self._asked is None or self._asked[1] != segments:
            self._asked = (now, segments)
        else:
            # It was asked up to two intervals before it was seen to have been asked.
            return now - self._asked[0] < self._dead_after * (PROBES - 2) / PROBES
        return True


def _set_user_timeout(sock: socket.socket, dead_after: float) -> None:
    # One step less than the limit, because the system checks only when a probe or retransmission is due.
    milliseconds = int(dead_after * 1000 * (PROBES - 1) / PROBES)
    _set(sock, socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)


def _set(sock: socket.socket, level: int, option: int | None, value: int) -> None:
    if option is None:
        return
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        # Not a TCP socket, or a platform that defines the option but does not support it.
        pass


def let_go_in_children(reactor: Any) -> None:
    """Make children that are forked from now on close the reactor's connections.

    Otherwise the other side would not notice the end of this process until all children have ended.
    """

    def let_go() -> None:
        with suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR | O_CLOEXEC)
            for each in {*reactor.getReaders(), *reactor.getWriters()}:
                if hasattr(each, "getPeer"):
                    # Keep the descriptor number in use, as live objects still refer to it.
                    os.dup2(nothing, each.fileno(), inheritable=False)
            os.close(nothing)

    after_fork_in_child(let_go)
