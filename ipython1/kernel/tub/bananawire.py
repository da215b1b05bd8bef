"""The parts of Banana, Foolscap's encoding, that :mod:`ipython1.kernel.tub.fastbroker` needs.

A token is a number in little-endian base 128 (bytes below 0x80), a type byte (0x80 and above), and for some types as
many bytes as the number says.  A top-level item begins with OPEN and ends with the matching CLOSE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias

from foolscap.tokens import BananaError

Part: TypeAlias = bytes | bytearray | memoryview
Target: TypeAlias = Callable[[Part], object]

DELIVER = "deliver"
"""The name of the method whose calls take the fast path."""

MAX_DEPTH = 16
MAX_PREFIX = 64
MAX_LONG_INTEGER = 1000

INT, STRING, FLOAT, LONGINT, LONGNEG = b"\x81", b"\x82", b"\x84", b"\x85", b"\x86"
VOCAB, OPEN, CLOSE, ERROR = b"\x87", b"\x88", b"\x89", b"\x8d"

DIGIT = tuple(bytes([number]) for number in range(0x80))
_find_token = re.compile(rb"([\x00-\x7f]{0,%d})[\x80-\xff]" % MAX_PREFIX).match


def b128(number: int) -> bytes:
    """Encode ``number`` as Banana writes it before a type byte."""
    # Most numbers have up to three digits.
    if number < 0x80:
        return DIGIT[number]
    if number < 0x4000:
        return bytes((number & 0x7F, number >> 7))
    if number < 0x200000:
        return bytes((number & 0x7F, number >> 7 & 0x7F, number >> 14))
    digits = bytearray()
    while number:
        digits.append(number & 0x7F)
        number >>= 7
    return bytes(digits)


def from_b128(digits: bytes) -> int:
    """Decode a number written by :func:`b128`; 0 if there are no digits."""
    if len(digits) == 1:
        return digits[0]
    if len(digits) == 2:
        return digits[0] | digits[1] << 7
    number = 0
    for digit in reversed(digits):
        number = number << 7 | digit
    return number


def _word(text: bytes, vocabulary: Mapping[bytes, int]) -> bytes:
    index = vocabulary.get(text)
    if index is None:
        return b128(len(text)) + STRING + text
    return b128(index) + VOCAB


def header_pieces(vocabulary: Mapping[bytes, int]) -> list[bytes]:
    """Return the constant bytes around the four numbers of a header: open, clid, open, size."""
    return [
        OPEN + _word(b"call", vocabulary) + DIGIT[0] + INT,
        INT + _word(DELIVER.encode(), vocabulary),
        OPEN + _word(b"arguments", vocabulary) + DIGIT[1] + INT,
        STRING,
    ]


class Header:
    """Recognises a header, complete or incomplete, in a stream that uses ``vocabulary``."""

    __slots__ = ("longest", "match", "match_beginning")

    def __init__(self, vocabulary: Mapping[bytes, int]) -> None:
        digits = (10, 10, 10, 5)
        pieces = header_pieces(vocabulary)
        number = rb"[\x00-\x7f]{1,%d}"
        whole = b"".join(
            b"(" + number % most + b")" + re.escape(piece)
            for most, piece in zip(digits, pieces, strict=True)
        )
        # An incomplete header: every unit is optional, and nested so that it requires those before it.
        units: list[bytes] = []
        for most, piece in zip(digits, pieces, strict=True):
            units += [number % most, *(re.escape(bytes([byte])) for byte in piece)]
        beginning = b"".join(b"(?:" + unit for unit in units) + b")?" * len(units)
        self.longest: int = sum(digits) + sum(map(len, pieces))
        self.match: Callable[..., re.Match[bytes] | None] = re.compile(whole).match
        self.match_beginning: Callable[..., re.Match[bytes] | None] = re.compile(
            beginning
        ).fullmatch


class Incoming:
    """A message whose header has been recognised and whose end has not arrived.

    :ivar memory: for the payload.
    :ivar size: of the payload, in bytes.
    :ivar filled: how many of them have arrived.
    """

    __slots__ = ("filled", "head", "memory", "size", "target", "trailer")

    def __init__(self, target: Target, head: bytes, trailer: bytes, size: int) -> None:
        self.target: Target = target
        self.head: bytes = head
        self.trailer: bytes = trailer
        self.memory: bytearray = bytearray(size)
        self.size: int = size
        self.filled: int = 0

    def add(self, data: bytes, start: int) -> int:
        """Take the bytes that belong to the payload; return the index in ``data`` where they end."""
        view = memoryview(data)[start : start + self.size - self.filled]
        self.memory[self.filled : self.filled + len(view)] = view
        self.filled += len(view)
        return start + len(view)

    def payload(self) -> memoryview:
        """Return the batch; only valid when all of it has arrived."""
        return memoryview(self.memory)


class Arguments:
    """The part of the arguments' interface that an ``InboundDelivery`` uses."""

    __slots__ = ("args", "kwargs")

    def __init__(self, payload: Part) -> None:
        self.args: list[Part] = [payload]
        self.kwargs: dict[str, object] = {}


class Extent:
    """Parses a Banana stream just enough to find the end of a top-level item, and limits its size.

    Foolscap itself limits neither strings without a schema nor the nesting depth.
    """

    __slots__ = ("_body", "_depth", "_prefix", "_used")

    def __init__(self) -> None:
        self._depth = 0
        self._body = 0
        self._prefix = b""
        self._used = 0

    @property
    def between_items(self) -> bool:
        """Return whether the next byte begins a top-level item."""
        return not (self._depth or self._body or self._prefix)

    def scan(self, data: bytes, start: int, limit: int) -> int:
        """Return the index where the current item ends, or the length of ``data``.

        :raises BananaError: if the item is longer than ``limit`` bytes, nested too deeply, or not Banana.
        """
        position = start
        end = len(data)
        while position < end:
            if self._body:
                step = min(self._body, end - position)
                self._body -= step
                position += step
            else:
                position = self._token(data, position, limit)
            if self.between_items:
                self._used = 0
                break
        return position

    def _token(self, data: bytes, position: int, limit: int) -> int:
        found = _find_token(data, position)
        stop = found.end() if found else len(data)
        length = stop - position
        if len(self._prefix) + length > MAX_PREFIX + 1:
            raise BananaError(f"a token prefix has more than {MAX_PREFIX} bytes")
        self._used += length
        if found is None:
            self._prefix += data[position:]
            return stop
        value = from_b128(self._prefix + found[1])
        self._prefix = b""
        token = data[stop - 1 : stop]
        if token == OPEN:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise BananaError(f"objects are nested more than {MAX_DEPTH} deep")
        elif token == CLOSE:
            self._depth = max(0, self._depth - 1)
        elif token in (STRING, ERROR):
            self._body = value
        elif token in (LONGINT, LONGNEG):
            if value > MAX_LONG_INTEGER:
                raise BananaError(f"an integer has more than {MAX_LONG_INTEGER} bytes")
            self._body = value
        elif token == FLOAT:
            self._body = 8
        self._used += self._body
        if self._used > limit:
            raise BananaError(f"a message has more than {limit} bytes")
        return stop


@cache
def first_tables(words: tuple[bytes, ...]) -> tuple[dict[bytes, int], dict[int, bytes]]:
    """Return the vocabulary of a new connection for both directions; connections share it and must not change it."""
    return {word: index for index, word in enumerate(words)}, dict(enumerate(words))


_headers: dict[tuple[tuple[bytes, int], ...], Header] = {}


def header_for(vocabulary: tuple[tuple[bytes, int], ...]) -> Header:
    """Return the Header for a vocabulary, given as sorted pairs."""
    # Cached, because compiling an expression takes a millisecond; only two vocabularies exist.
    if vocabulary not in _headers:
        if len(_headers) > 8:
            _headers.clear()
        _headers[vocabulary] = Header(dict(vocabulary))
    return _headers[vocabulary]
