"""The requests of the methods of MultiEngine clients, blocking and asynchronous.

Each function checks and packs its arguments, in the caller's thread, and returns a request that knows how to decode the
outcomes.
"""

from __future__ import annotations

import inspect
import keyword
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ipython1.checks import check_bool, check_int, check_settable
from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.calls.calls import Arrange, Request
from ipython1.kernel.calls.map import get_distribution
from ipython1.kernel.calls.mapresults import MapResults
from ipython1.kernel.calls.missingparts import in_order, with_warning
from ipython1.kernel.calls.resultlist import EngineResult, ResultList
from ipython1.kernel.calls.sequences import (
    as_sequence,
    check_sequences,
    is_array,
    single_element,
)
from ipython1.kernel.calls.sequences import cut as cut_sequence
from ipython1.kernel.objects.commands import (
    APPLY,
    CLEAR_PROPERTIES,
    COMMANDS,
    DEBUG,
    DEL_PROPERTIES,
    EXECUTE,
    GET_PROPERTIES,
    GET_RESULT,
    HAS_PROPERTIES,
    KEYS,
    MAP,
    PULL,
    PULL_FUNCTION,
    PUSH,
    PUSH_FUNCTION,
    RESET,
    SCATTER,
    SET_PROPERTIES,
    CommandKind,
    Part,
    ReturnValue,
)
from ipython1.kernel.objects.decorated import Cached
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.bulk import copy_of
from ipython1.kernel.wire.callhistory import RESULT_OF, CallEntry
from ipython1.kernel.wire.payload import Buffers, ISerialized, Serialized


def check_keys(keys: str | Sequence[str]) -> tuple[list[str], bool]:
    """Return the names in ``keys``, and whether it is a single name.

    :raises TypeError, ValueError: if they are not valid names.
    """
    if isinstance(keys, str):
        return [_check_name(keys, "keys")], True
    if not isinstance(keys, (list, tuple, set, frozenset)) or not keys:
        raise TypeError(f"keys must be a name or a list of names, not {keys!r}")
    return [_check_name(key, "each of keys") for key in keys], False


def _check_name(name: object, argument: str) -> str:
    """Return a name that code can have.

    :param argument: what it was given as, for errors.
    """
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, not {name!r}")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{argument} must be a valid variable name, not {name!r}")
    return name


def check_namespace(namespace: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``namespace`` if it is valid.

    :raises TypeError, ValueError: if it is not a mapping whose keys are names that can be set.
    """
    if not isinstance(namespace, Mapping):
        raise TypeError(
            f"namespace must be a dict of names and objects, not {type(namespace).__name__}"
        )
    for name in namespace:
        check_settable(_check_name(name, "each name in namespace"))
    return namespace


def execute(lines: str, stream: bool = False) -> Request:
    if not isinstance(lines, str):
        raise TypeError(f"lines must be a str with code, not {type(lines).__name__}")
    return Request.of(
        EXECUTE,
        EXECUTE.pack(lines),
        combine=ResultList,
        stream=stream,
        output=_of_result,
        one=EngineResult,
    )


def _of_result(value: dict[str, Any]) -> Mapping[str, Any]:
    """Return what a command wrote; its result has the same keys."""
    return value


def get_result(i: int | None) -> Request:
    if i is not None:
        check_int("i, the number of a command,", i)
    return Request.of(
        GET_RESULT, GET_RESULT.pack(i), combine=ResultList, output=_of_result, one=EngineResult
    )


def push(namespace: Mapping[str, Any], snapshot: bool) -> Request:
    check_namespace(namespace)
    named = {name: dumps(value, snapshot=snapshot) for name, value in namespace.items()}
    return Request.of(PUSH, PUSH.pack(named))


def push_serialized(namespace: Mapping[str, Serialized], snapshot: bool) -> Request:
    check_namespace(namespace)
    packed = {name: ISerialized(value, None) for name, value in namespace.items()}
    for name, value in packed.items():
        if value is None:
            raise TypeError(f"{name!r} is not Serialized; use push for objects")
        if snapshot:
            packed[name] = Serialized(tuple(map(copy_of, value.buffers)))
    return Request.of(PUSH, PUSH.pack(packed), name="push_serialized")


def push_function(namespace: Mapping[str, Any], snapshot: bool) -> Request:
    check_namespace(namespace)
    for name, value in namespace.items():
        if not isinstance(value, (types.FunctionType, types.BuiltinFunctionType, Cached)):
            raise TypeError(f"{name!r} is not a function; use push for other objects")
    named = {name: dumps(value, snapshot=snapshot) for name, value in namespace.items()}
    return Request.of(PUSH_FUNCTION, PUSH_FUNCTION.pack(named))


def _pull(
    kind: CommandKind[[Sequence[str]], dict[str, Serialized]],
    keys: str | Sequence[str],
    rebuild: Callable[[Serialized], Any] = loads,
    **changes: Any,
) -> Request:
    names, single = check_keys(keys)

    def read(buffers: Buffers) -> Any:
        named = kind.value.read(buffers)
        values = [rebuild(named[key]) for key in names]
        return values[0] if single else values

    return Request.of(kind, kind.pack(names), read=read, **changes)


def pull(keys: str | Sequence[str], whole: bool = False) -> Request:
    """Create a request for objects.

    :param whole: whether to warn if the parts of an engine are missing.
    """
    return _pull(PULL, keys, arrange=_warning(keys, whole))


def _warning(keys: str | Sequence[str], whole: bool) -> Arrange | None:
    return partial(with_warning, check_keys(keys)[0]) if whole else None


def pull_serialized(keys: str | Sequence[str]) -> Request:
    return _pull(PULL, keys, lambda value: value, name="pull_serialized")


def pull_function(keys: str | Sequence[str]) -> Request:
    return _pull(PULL_FUNCTION, keys)


def zip_pull(keys: str | Sequence[str], whole: bool = False) -> Request:
    names, _ = check_keys(keys)

    def combine(values: list[Any]) -> Any:
        return list(zip(*values, strict=True))

    arrange = _warning(names, whole)
    return _pull(PULL, names, name="zip_pull", combine=combine, arrange=arrange, listed=False)


def keys() -> Request:
    return Request.of(KEYS, KEYS.pack())


def reset() -> Request:
    return Request.of(RESET, RESET.pack())


def set_properties(properties: Mapping[str, Any]) -> Request:
    if not isinstance(properties, Mapping):
        raise TypeError(f"properties must be a dict, not {type(properties).__name__}")
    _property_keys(list(properties))
    return Request.of(SET_PROPERTIES, SET_PROPERTIES.pack(dict(properties)))


def _property_keys(keys: str | Sequence[str]) -> list[str]:
    if isinstance(keys, str):
        return [keys]
    if not isinstance(keys, (list, tuple, set, frozenset)):
        raise TypeError(f"keys must be a name or a list of names, not {keys!r}")
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"the name of a property must be a str, not {key!r}")
    return list(keys)


def get_properties(keys: str | Sequence[str] | None) -> Request:
    names = None if keys is None else _property_keys(keys)
    return Request.of(GET_PROPERTIES, GET_PROPERTIES.pack(names))


def has_properties(keys: str | Sequence[str]) -> Request:
    return Request.of(HAS_PROPERTIES, HAS_PROPERTIES.pack(_property_keys(keys)))


def del_properties(keys: str | Sequence[str]) -> Request:
    return Request.of(DEL_PROPERTIES, DEL_PROPERTIES.pack(_property_keys(keys)))


def clear_properties() -> Request:
    return Request.of(CLEAR_PROPERTIES, CLEAR_PROPERTIES.pack())


def result_of(entry: CallEntry) -> Request:
    kind = COMMANDS.get(entry.method)
    if kind is None:
        raise ClientError(f"this client cannot read what {entry.method} returned")
    combine = ResultList if kind in (EXECUTE, GET_RESULT) else _as_it_is
    buffers = [messages.pack_json(entry.id)]
    return Request(
        "result_of",
        RESULT_OF,
        buffers,
        read=partial(_read_again, kind),
        combine=combine,
        output=_of_result if combine is ResultList else _no_output,
    )


def _as_it_is(values: list[Any]) -> Any:
    return values


def _no_output(value: Any) -> Mapping[str, Any]:
    return {}


def _read_again(kind: CommandKind[..., Any], buffers: Buffers) -> Any:
    """Read what a command returned without knowing how it was called."""
    value = kind.value.read(buffers)
    if kind in (PULL, PULL_FUNCTION):
        return {name: loads(each) for name, each in value.items()}
    if kind is MAP:
        return ReturnValue(value.value.results(), value.output)
    return value


def scatter(key: str, seq: Any, dist: str, flatten: bool, snapshot: bool) -> Request:
    check_settable(_check_name(key, "key"))
    check_bool("flatten", flatten)
    distribution = get_distribution(dist)
    try:
        seq = as_sequence(seq)
    except TypeError as problem:
        raise TypeError(f"seq cannot be scattered: {problem}") from None
    # Partition once, so that errors are raised here and not in the reactor's thread.
    distribution.partition(seq, 1)

    def deal(whole: Any, ids: Sequence[int]) -> list[tuple[int, Buffers]]:
        named: list[tuple[int, Buffers]] = []
        scatter, engines = uuid.uuid4().hex, list(messages.runs_of(ids))
        parts = distribution.partition(whole, len(ids))
        for number, (engine_id, part) in enumerate(zip(ids, parts, strict=True)):
            value = dumps(single_element(part) if flatten else part, snapshot=snapshot)
            packed = SCATTER.pack({key: value}, Part(key, scatter, number, engines))
            named.append((engine_id, packed))
        return named

    return _dealt(SCATTER, seq, deal)


def _dealt(
    kind: CommandKind[..., Any],
    given: Any,
    deal: Callable[[Any, Sequence[int]], list[tuple[int, Buffers]]],
    **more: Any,
) -> Request:
    """Create a request that gives each engine a part of what the call was given.

    :param deal: cuts and packs it, for engines with these ids.
    """
    return Request.of(
        kind,
        for_targets=partial(deal, given),
        keep=lambda: partial(deal, loads(dumps(given, snapshot=True))),
        **more,
    )


def gather(key: str, dist: str, whole: bool = False) -> Request:
    """Create a request for the parts of a sequence.

    :param whole: whether none may be missing.
    """
    distribution = get_distribution(dist)
    return _pull(
        PULL,
        _check_name(key, "key"),
        name="gather",
        combine=distribution.join,
        listed=False,
        one=lambda part: distribution.join([part]),
        arrange=partial(in_order, key) if whole else None,
        adjoins=True,
    )


def apply(
    name: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    snapshot: bool = False,
    stream: bool = False,
) -> Request:
    _check_callable(function)
    packed = APPLY.pack(function, args, kwargs, snapshot)
    return Request.of(APPLY, packed, name=name, stream=stream, prints=True)


def debug() -> Request:
    """Create a request to look at an engine's last exception; its output is always wanted, as somebody is there."""
    return Request.of(DEBUG, DEBUG.pack(), stream=True)


def check_options_of_function(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Check that a function takes the ``targets`` or ``block`` that it is to be called with.

    :raises TypeError: if these were meant for the client.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return  # it does not tell
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return
    known = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
    if "targets" in kwargs and "targets" not in known:
        raise TypeError(
            "apply() gives all arguments to the function, which has no parameter 'targets'; "
            "use a view, such as mec[[0, 2]].apply(...)"
        )
    if "block" in kwargs and "block" not in known:
        raise TypeError(
            "apply() gives all arguments to the function, which has no parameter 'block'; "
            "set block of the client or of a view"
        )


def _check_callable(function: object) -> None:
    if not callable(function):
        raise TypeError(f"func must be callable, not {function!r:.200}")


def raw_map(
    function: Callable[..., Any],
    sequences: Sequence[Any],
    dist: str,
    snapshot: bool,
    stream: bool = False,
    chunks: int = 1,
) -> Request:
    """Create a request to map ``function`` over ``sequences``, with one part of them for each engine.

    :param chunks: the number of pieces in which each engine gets its part.
    """
    _check_callable(function)
    distribution = get_distribution(dist)
    check_int("chunks", chunks, 1)
    columns = _columns(check_sequences(sequences))
    # Pickled here, so that errors are raised to the caller.
    body = dumps(function, snapshot=snapshot)
    name = str(getattr(function, "__name__", type(function).__name__))
    results = MapResults(distribution, len(columns[0]))

    def deal(columns: list[Any], ids: Sequence[int]) -> list[tuple[int, Buffers]]:
        cut = [distribution.partition(column, len(ids)) for column in columns]
        work: list[tuple[int, Buffers]] = []
        sizes = [len(part) for part in cut[0]]
        if any([len(part) for part in each] != sizes for each in cut[1:]) or (
            len(sizes) != len(ids) or sum(sizes) != len(columns[0])
        ):
            raise ClientError(
                f"the distribution {dist!r} makes {len(sizes)} parts with {sum(sizes)} items "
                f"of {len(columns[0])} items for {len(ids)} engines; a map needs each item once"
            )
        results.cut(sizes, chunks)
        for target, start, stop in results.pieces:
            parts = [column[target] for column in cut]
            if stop - start < sizes[target]:
                parts = [cut_sequence(part, slice(start, stop)) for part in parts]
            packed = MAP.pack(body, dumps(parts, snapshot=snapshot), name)
            work.append((ids[target], packed))
        return work

    return _dealt(
        MAP,
        columns,
        deal,
        conclude=results.conclude,
        items=results,
        stream=stream,
        prints=True,
    )


def _columns(sequences: Sequence[Any]) -> list[Any]:
    """Return the sequences, cut to the length of the shortest, as objects that can be sliced.

    As with the built-in ``map``, some may be infinite if at least one is finite.
    """
    columns = [sequence if _keeps_its_form(sequence) else iter(sequence) for sequence in sequences]
    if any(hasattr(column, "__next__") for column in columns):
        rows = list(zip(*columns, strict=False))
        return [list(column) for column in zip(*rows, strict=True)] if rows else [[]]
    length = min(len(column) for column in columns)
    return [column if len(column) == length else column[:length] for column in columns]


def _keeps_its_form(sequence: object) -> bool:
    return isinstance(sequence, (list, tuple, range, str, bytes, bytearray)) or is_array(sequence)
