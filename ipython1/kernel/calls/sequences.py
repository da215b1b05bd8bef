"""Kinds of sequences: how each is cut into parts, and how parts become the same kind of sequence again.

Nothing is imported for this: values of numpy, pandas and scipy exist only where these are loaded.
"""

from __future__ import annotations

import array
import copy
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from ipython1.kernel.calls.adjoining import adjoined


class Kind:
    """Sequences of one kind; this one is for lists."""

    def length(self, sequence: Any) -> int:
        return len(sequence)

    def cut(self, sequence: Any, where: slice) -> Any:
        """Return the elements of a sequence that a slice selects."""
        part = sequence[where]
        # The slices of a range become lists, as documented.
        return list(part) if isinstance(part, range) else part

    def join(self, parts: Sequence[Any]) -> Any:
        """Concatenate parts, which are all of this kind; there is at least one."""
        return list(chain.from_iterable(parts))

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        """Return the elements of ``whole``, which :meth:`join` returned, in another order."""
        return [whole[index] for index in order]

    def dealt(self, whole: Any, parts: Sequence[Any]) -> Any:
        """Return ``whole``, whose elements were dealt out to ``parts``, with what the parts tell about it."""
        return whole


class _Tuples(Kind):
    def join(self, parts: Sequence[Any]) -> Any:
        return tuple(chain.from_iterable(parts))

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        return tuple([whole[index] for index in order])


class _Strings(Kind):
    def join(self, parts: Sequence[Any]) -> Any:
        return "".join(parts)

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        return "".join([whole[index] for index in order])


class _Bytes(Kind):
    def join(self, parts: Sequence[Any]) -> Any:
        return type(parts[0])().join(parts)

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        return type(whole)([whole[index] for index in order])


class _TypedArrays(Kind):
    """``array.array``."""

    def join(self, parts: Sequence[Any]) -> Any:
        if len({part.typecode for part in parts}) > 1:
            return list(chain.from_iterable(parts))
        return type(parts[0])(parts[0].typecode, chain.from_iterable(parts))

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        picked = [whole[index] for index in order]
        return picked if isinstance(whole, list) else type(whole)(whole.typecode, picked)


class _Deques(Kind):
    """``deque``, which has no slices."""

    def cut(self, sequence: Any, where: slice) -> Any:
        return self._filled(sequence, islice(sequence, where.start, where.stop, where.step))

    def join(self, parts: Sequence[Any]) -> Any:
        items = list(chain.from_iterable(parts))
        limit = parts[0].maxlen
        return (
            deque(items)
            if limit is not None and limit < len(items)
            else self._filled(parts[0], items)
        )

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        items = list(whole)
        return self._filled(whole, [items[index] for index in order])

    def _filled(self, like: Any, items: Iterable[Any]) -> Any:
        filled = copy.copy(like)
        filled.clear()
        filled.extend(items)
        return filled


class _OwnSequences(Kind):
    """Other classes whose slices are of the class itself: those that ``+`` concatenates, and others become lists."""

    def join(self, parts: Sequence[Any]) -> Any:
        whole = _concatenated(list(parts))
        return list(chain.from_iterable(parts)) if whole is None else whole

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        if isinstance(whole, list):
            return LISTS.take(whole, order)
        if not order:
            return whole
        taken = _concatenated([whole[index : index + 1] for index in order])
        return LISTS.take(whole, order) if taken is None else taken


def _concatenated(parts: list[Any]) -> Any:
    """Return ``parts[0] + parts[1] + ...``; None if ``+`` does not concatenate them.

    Neighbours are joined first, so that each element is copied only a few times.
    """
    cls = type(parts[0])
    total = sum(map(len, parts))
    try:
        for one in islice((part[:1] for part in parts if len(part)), 1):
            if len(one + one) != 2:  # it adds the elements
                return None
        while len(parts) > 1:
            pairs = [one + two for one, two in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        whole = parts[0]
        return whole if type(whole) is cls and len(whole) == total else None
    except Exception:
        return None


class _Arrays(Kind):
    """Arrays of numpy, along axis 0: also of subclasses, such as masked arrays and record arrays."""

    def join(self, parts: Sequence[Any]) -> Any:
        import numpy

        # The type of an array without elements says nothing: numpy.array([]) is one of floats.
        arrays = [numpy.atleast_1d(part) for part in parts]
        arrays = [part for part in arrays if len(part)] or arrays[:1]
        first = arrays[0]
        cls = type(first)
        if any(type(part) is not cls for part in arrays):
            masked = any(isinstance(part, numpy.ma.MaskedArray) for part in arrays)
            return (numpy.ma if masked else numpy).concatenate(arrays)
        if isinstance(first, numpy.ma.MaskedArray):
            return self._join_masked(arrays)
        if cls.__array_function__ is not numpy.ndarray.__array_function__:
            return numpy.concatenate(arrays)  # the class knows how
        whole = self._join_plain(arrays)
        if cls is not numpy.ndarray:
            whole = whole.view(cls)
            whole.__array_finalize__(first)
        return whole

    def _join_plain(self, arrays: Sequence[Any]) -> Any:
        """Concatenate; the layout of structures is kept, too."""
        import numpy

        dtype = arrays[0].dtype
        plain = [numpy.ndarray.view(part, numpy.ndarray) for part in arrays]
        if any(part.dtype != dtype for part in plain):
            return numpy.concatenate(plain)
        whole = adjoined(plain)
        if whole is not None:
            return whole
        out = numpy.empty((sum(map(len, plain)), *plain[0].shape[1:]), plain[0].dtype)
        return numpy.concatenate(plain, out=out)

    def _join_masked(self, arrays: Sequence[Any]) -> Any:
        import numpy

        first = arrays[0]
        data = self._join_plain([numpy.ma.getdata(part, subok=False) for part in arrays])
        if all(numpy.ma.getmask(part) is numpy.ma.nomask for part in arrays):
            mask = numpy.ma.nomask
        else:
            mask = self._join_plain([numpy.ma.getmaskarray(part) for part in arrays])
        same = data.dtype == first.dtype
        whole = numpy.ma.MaskedArray(
            data.view(first.baseclass),
            mask=mask,
            fill_value=first.fill_value if same else None,
        )
        return whole if type(whole) is type(first) else whole.view(type(first))

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        import numpy

        return whole[numpy.asarray(order, dtype=numpy.intp)]


class _SparseArrays(Kind):
    """Sparse arrays and matrices of scipy, by rows."""

    def length(self, sequence: Any) -> int:
        return int(sequence.shape[0])

    def cut(self, sequence: Any, where: slice) -> Any:
        return sequence.tocsr()[where].asformat(sequence.format)

    def join(self, parts: Sequence[Any]) -> Any:
        import scipy.sparse

        return scipy.sparse.vstack(parts, format=parts[0].format)

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        return whole.tocsr()[list(order)].asformat(whole.format)


class _Indices(Kind):
    """``pandas.Index`` and its subclasses."""

    def join(self, parts: Sequence[Any]) -> Any:
        first, *rest = [part for part in parts if len(part)] or parts[:1]
        return first.append(rest)

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        return whole.take(list(order))

    def dealt(self, whole: Any, parts: Sequence[Any]) -> Any:
        """Return an index that is a range, or has a frequency, if the whole was one."""
        import pandas

        if all(isinstance(part, pandas.RangeIndex) for part in parts):
            if not len(whole):
                return parts[0]
            step = whole[1] - whole[0] if len(whole) > 1 else 1
            stop = whole[-1] + (1 if step > 0 else -1)
            regular = pandas.RangeIndex(whole[0], stop, step or 1, name=whole.name)
            return regular if regular.equals(whole) else whole
        frequencies = {getattr(part, "freq", None) for part in parts}
        frequency = frequencies.pop()
        if frequencies or frequency is None or isinstance(whole, pandas.PeriodIndex):
            return whole
        each, rest = divmod(frequency.n, len(parts))
        if each and not rest:
            regular = whole.copy()
            try:
                regular.freq = frequency.base * each
            except ValueError:
                return whole
            return regular
        return whole


class _Frames(Kind):
    """``pandas.Series`` and ``pandas.DataFrame``: by positions, whatever the labels are."""

    def cut(self, sequence: Any, where: slice) -> Any:
        return sequence.iloc[where]

    def join(self, parts: Sequence[Any]) -> Any:
        import pandas

        return pandas.concat([part for part in parts if len(part)] or parts[:1])

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        return whole.iloc[list(order)]

    def dealt(self, whole: Any, parts: Sequence[Any]) -> Any:
        whole.index = INDICES.dealt(whole.index, [part.index for part in parts])
        return whole


class _ExtensionArrays(Kind):
    """``pandas.Categorical`` and other arrays of pandas."""

    def join(self, parts: Sequence[Any]) -> Any:
        filled = [part for part in parts if len(part)] or parts[:1]
        if any(part.dtype != filled[0].dtype for part in filled):
            return list(chain.from_iterable(filled))
        return type(filled[0])._concat_same_type(filled)

    def take(self, whole: Any, order: Sequence[int]) -> Any:
        return LISTS.take(whole, order) if isinstance(whole, list) else whole.take(list(order))


LISTS = Kind()
TUPLES = _Tuples()
STRINGS = _Strings()
BYTES = _Bytes()
TYPED_ARRAYS = _TypedArrays()
DEQUES = _Deques()
OWN = _OwnSequences()
ARRAYS = _Arrays()
SPARSE_ARRAYS = _SparseArrays()
INDICES = _Indices()
SERIES, FRAMES = _Frames(), _Frames()
EXTENSION_ARRAYS = _ExtensionArrays()

_BUILT_IN: dict[type, Kind] = {
    list: LISTS,
    range: LISTS,
    tuple: TUPLES,
    str: STRINGS,
    bytes: BYTES,
    bytearray: BYTES,
    array.array: TYPED_ARRAYS,
    deque: DEQUES,
}


def kind_of(value: Any) -> Kind | None:
    """Return the kind of a sequence; None if ``value`` is a single object, or cannot be cut."""
    kind = _BUILT_IN.get(type(value))
    if kind is not None:
        return kind
    if is_array(value):
        return ARRAYS if value.ndim else None
    return _kind_in_pandas(value) or _kind_in_scipy(value) or _kind_of_own(value)


def _kind_in_pandas(value: object) -> Kind | None:
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "api"):  # it is just being imported
        return None
    if isinstance(value, pandas.Series):
        return SERIES
    if isinstance(value, pandas.DataFrame):
        return FRAMES
    if isinstance(value, pandas.Index):
        return INDICES
    return EXTENSION_ARRAYS if isinstance(value, pandas.api.extensions.ExtensionArray) else None


def _kind_in_scipy(value: object) -> Kind | None:
    sparse: Any = sys.modules.get("scipy.sparse")
    if sparse is None or not hasattr(sparse, "vstack") or not sparse.issparse(value):
        return None
    return SPARSE_ARRAYS if value.ndim == 2 else None  # type: ignore[attr-defined]


def _kind_of_own(value: Any) -> Kind | None:
    """Return the kind of a sequence of another class."""
    cls = type(value)
    if isinstance(value, deque):
        return DEQUES
    if isinstance(value, Mapping) or not (
        hasattr(cls, "__getitem__") and hasattr(cls, "__len__") and hasattr(cls, "__iter__")
    ):
        return None
    try:
        part = value[0:0]
        len(part)
    except Exception:
        return None
    if type(part) is cls:
        return OWN if hasattr(cls, "__add__") else None
    # A class derived from list or tuple that does not say what its slices are.
    derived = isinstance(value, type(part)) and not isinstance(value, (str, bytes))
    return _BUILT_IN.get(type(part)) if derived else None


def is_array(value: Any) -> bool:
    """Return whether ``value`` is a numpy array; does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def as_sequence(sequence: Any) -> Any:
    """Return an object of a kind that can be cut: ``sequence`` itself, or a list of the items of an iterable.

    :raises TypeError: if ``sequence`` is a mapping or not iterable.
    """
    if isinstance(sequence, Mapping):
        raise TypeError(
            f"a {type(sequence).__name__} cannot be distributed; use a list of its items"
        )
    if isinstance(sequence, memoryview):
        return _copied(sequence)
    if isinstance(sequence, (str, bytes)):
        return sequence[:]
    if kind_of(sequence) is not None:
        return sequence
    if is_array(sequence):
        raise TypeError("an array of 0 dimensions is not a sequence")
    if hasattr(sequence, "__iter__") or hasattr(sequence, "__getitem__"):
        return list(sequence)
    raise TypeError(f"an object of type {type(sequence).__name__} is not a sequence")


def _copied(view: memoryview) -> Any:
    """Return a sequence with the elements of a memoryview, which cannot be pickled."""
    if view.ndim == 1 and view.format == "B":
        return view.tobytes()
    if view.ndim == 1 and view.format in array.typecodes:
        return array.array(view.format, view.tobytes())
    return view.tolist()


def cut(sequence: Any, where: slice) -> Any:
    """Return the elements of a sequence, as :func:`as_sequence` returns it, that a slice selects."""
    return (kind_of(sequence) or LISTS).cut(sequence, where)


def length(sequence: Any) -> int:
    """Return the number of elements of a sequence, as :func:`as_sequence` returns it."""
    return (kind_of(sequence) or LISTS).length(sequence)


def single_element(part: Any) -> Any:
    """Return the element of a part with one element, else the part itself."""
    if length(part) != 1:
        return part
    return part.iloc[0] if kind_of(part) in (SERIES, FRAMES) else next(iter(part))


def concatenate(parts: Sequence[Any]) -> Any:
    """Concatenate parts, in their order.

    Parts that are single objects (from a scatter with ``flatten``) become elements of a list.

    :returns: a sequence of the kind of the parts; of different kinds, an array if there is an array among them, else a
        list.
    """
    if not parts:
        return []
    kind, parts = _alike(parts)
    return kind.join(parts)


def interleave(parts: Sequence[Any]) -> Any:
    """Concatenate parts to which elements were dealt out one by one: first the first element of each, and so on."""
    if not parts:
        return []
    kind, parts = _alike(parts)
    whole = kind.join(parts)
    if len(parts) == 1:
        return whole
    n = len(parts)
    positions = list(
        chain.from_iterable(
            range(index, index + n * kind.length(part), n) for index, part in enumerate(parts)
        )
    )
    order = sorted(range(len(positions)), key=positions.__getitem__)
    return kind.dealt(kind.take(whole, order), parts)


def _alike(parts: Sequence[Any]) -> tuple[Kind, list[Any]]:
    """Return the parts as sequences of one kind, and that kind."""
    parts = list(parts)
    kinds = [kind_of(part) for part in parts]
    kind = kinds[0]
    if kind is not None and all(each is kind for each in kinds):
        uniform = kind not in (OWN, BYTES) or len(set(map(type, parts))) == 1
        if uniform:
            return kind, parts
    if ARRAYS in kinds:
        import numpy

        return ARRAYS, [numpy.atleast_1d(part) for part in parts]
    return LISTS, [_as_list(part, kind) for part, kind in zip(parts, kinds, strict=True)]


def _as_list(part: Any, kind: Kind | None) -> list[Any]:
    """Return a part among others of other kinds as a list: strings and tables are single objects there."""
    whole = kind in (None, STRINGS, BYTES, FRAMES, SPARSE_ARRAYS)
    return [part] if whole else list(part)


def check_sequences(sequences: Any) -> Sequence[Any]:
    """Check the sequences of a map.

    :returns: a list or tuple of them.
    :raises TypeError: if there are none, or ``sequences`` is not a list of sequences.
    """
    wanted = "sequences must be a list of sequences"
    if isinstance(sequences, (str, bytes, bytearray, memoryview, Mapping)) or not _is_iterable(
        sequences
    ):
        raise TypeError(f"{wanted}, not {sequences!r:.100}")
    given = sequences if isinstance(sequences, (list, tuple)) else list(sequences)
    if not given:
        raise TypeError("map needs a function and at least one sequence")
    for each in given:
        if not _is_iterable(each):
            if isinstance(sequences, tuple):
                raise TypeError(f"each of the sequences must be iterable, not {each!r:.100}")
            raise TypeError(f"{wanted}, not {sequences!r:.100}: {each!r:.100} is not iterable")
    return given


def _is_iterable(value: object) -> bool:
    if is_array(value):
        return bool(value.ndim)  # type: ignore[attr-defined]
    return isinstance(value, Iterable) or hasattr(type(value), "__getitem__")
