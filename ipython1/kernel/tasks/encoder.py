"""Encoding of tasks as bytes, in a client."""

from __future__ import annotations

import copy
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

from ipython1.checks import check_settable
from ipython1.kernel.objects.taskcodec import (
    CLEAR_AFTER,
    CLEAR_BEFORE,
    Kind,
    digest,
    pack_arguments,
    pack_object,
    pack_task,
)
from ipython1.kernel.objects.taskobjects import (
    BaseTask,
    MapTask,
    StringTask,
    pull_names,
    template_of,
)
from ipython1.kernel.objects.taskoptions import (
    TaskOptions,
    all_values,
    check_options,
    options_of,
)
from ipython1.kernel.wire.taskwire import OptionsSpec

K = TypeVar("K")
V = TypeVar("V")

_UNCHANGING: Final = (
    int,
    float,
    complex,
    bool,
    str,
    bytes,
    type(None),
    types.ModuleType,
    types.BuiltinFunctionType,
    type,
)
_MAIN: Final = "__main__"
_STEPS: Final = ("pre_task", "submit_task", "post_task")


class Recent(OrderedDict[K, V], Generic[K, V]):
    """A dict with a maximum number of entries, which drops the oldest."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._most:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Packed:
    """A pickled function.

    :ivar template: identifies its code, regardless of the values in its closure.
    """

    digest: bytes
    data: bytes
    template: bytes


class Encoded(NamedTuple):
    """An encoded task; a tuple for speed, as one is created for each task.

    :ivar functions: the functions that must be sent before it, unless they already were.
    """

    options: bytes
    payload: bytes
    recovery: Sequence[tuple[bytes, bytes]] = ()
    functions: Sequence[Packed] = ()


class _Kept:
    """A packed function, valid as long as nothing that was packed with it has changed."""

    __slots__ = ("_cells", "_globals", "function", "packed")

    def __init__(self, function: Any, packed: Packed) -> None:
        self.function = function
        self.packed = packed
        self._cells: list[tuple[Any, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []

    def depend_on(self, function: types.FunctionType, seen: set[int]) -> bool:
        """Record what is pickled with ``function``; return False if some of that can change unnoticed."""
        if id(function) in seen:
            return True
        seen.add(id(function))
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                return False
            self._cells.append((cell, value))
            if not self._steady(value, seen):
                return False
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if not self._steady(value, seen):
                return False
        if function.__dict__:
            return False
        namespace = function.__globals__
        for name in _global_names(function.__code__):
            if name in namespace:
                value = namespace[name]
                self._globals.append((namespace, name, value))
                if isinstance(value, types.FunctionType) and not self._steady(value, seen):
                    return False
        return True

    def _steady(self, value: Any, seen: set[int]) -> bool:
        if isinstance(value, types.FunctionType):
            return not travels_by_value(value) or self.depend_on(value, seen)
        return isinstance(value, _UNCHANGING)

    def good(self) -> bool:
        """Return whether nothing has changed."""
        for cell, value in self._cells:
            if cell.cell_contents is not value:
                return False
        for namespace, name, value in self._globals:  # noqa: SIM110 (this is on the hot path)
            if namespace.get(name) is not value:
                return False
        return True


def travels_by_value(function: types.FunctionType) -> bool:
    """Return whether a function is pickled by value, not as the names of its module and itself."""
    return function.__module__ == _MAIN or "<" in function.__qualname__


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


class FunctionPacker:
    """Packs functions, each only once unless it changes."""

    def __init__(self) -> None:
        self._kept: Recent[int, _Kept] = Recent(256)
        self._templates: Recent[int, tuple[Any, bytes]] = Recent(1024)

    def pack(self, function: Any) -> tuple[Packed, bool]:
        """Pack a function.

        :returns: the packed function, and whether the same object was packed before.
        :raises SerializationError: if it cannot be pickled.
        """
        kept = self._kept.get(id(function))
        if kept is not None and kept.function is function and kept.good():
            return kept.packed, True
        data = pack_object(function)
        packed = Packed(digest(data), data, self.template(function))
        kept = _Kept(function, packed)
        if not isinstance(function, types.FunctionType):
            steady = isinstance(function, (types.BuiltinFunctionType, type))
        else:
            steady = not travels_by_value(function) or kept.depend_on(function, set())
        if steady:
            self._kept[id(function)] = kept
        else:
            self._kept.pop(id(function), None)
        return packed, False

    def template(self, function: Any) -> bytes:
        """Return an identifier of a function's code."""
        code = getattr(function, "__code__", None) or type(function)
        known = self._templates.get(id(code))
        if known is not None and known[0] is code:
            return known[1]
        if isinstance(code, types.CodeType):
            text = f"{code.co_filename}\n{code.co_firstlineno}\n{code.co_name}\n".encode()
            name = digest(text + code.co_code)
        else:
            name = digest(f"{code.__module__}.{code.__qualname__}.{function!r:.200}")
        self._templates[id(code)] = (code, name)
        return name


class TaskEncoder:
    """Encodes tasks as bytes."""

    def __init__(self) -> None:
        self.functions = FunctionPacker()
        self._options: Recent[tuple[Any, ...], bytes] = Recent(4096)
        self._templates: Recent[str, bytes] = Recent(4096)
        self._seen: Recent[bytes, None] = Recent(4096)
        self._again: Recent[tuple[Any, ...], Encoded] = Recent(1024)

    def encode(self, task: Any) -> Encoded:
        """Encode a task and its recovery tasks.

        :raises TypeError, ValueError: if the task or one of its options is invalid.
        :raises SerializationError: if it cannot be pickled.
        """
        options = options_of(task)
        if options.recovery_task is None:
            # Options are checked when they are packed, which happens once for many tasks.
            return self._one(task, options)
        check_options(options, task)
        encoded = self._one(task, options)
        recovery: list[tuple[bytes, bytes]] = []
        functions = list(encoded.functions)
        while (following := options.recovery_task) is not None:
            options = options_of(following)
            one = self._one(following, options)
            recovery.append((one.options, one.payload))
            functions += one.functions
        return Encoded(encoded.options, encoded.payload, recovery, functions)

    def _one(self, task: Any, options: TaskOptions) -> Encoded:
        kind = task.__class__
        if kind is not StringTask and kind is not MapTask:
            kind = _what_runs_like(kind)
        if kind is StringTask:
            return self._source(task, options)
        if kind is MapTask:
            return self._call(task, options)
        return self._object(task, options)

    def _source(self, task: StringTask, options: TaskOptions) -> Encoded:
        expression = task.expression
        if not isinstance(expression, str):
            raise TypeError(f"the code of a task must be a str, not {type(expression).__name__}")
        template = self._templates.get(expression)
        pull = task.pull
        key = None
        if template is None:
            template = self._templates[expression] = digest(template_of(expression))
        elif (
            not task.push
            and options.depend is None
            and (pull is None or pull.__class__ is str)
            and len(expression) < 4096
        ):
            # The same code as before: the whole task is probably the same.
            key = (expression, pull, all_values(options))
            again = self._find(self._again, key, options)
            if again is not None:
                return again
        names = b"" if pull is None else "\n".join(pull_names(pull)).encode()
        payload = pack_task(
            Kind.SOURCE,
            _flags(options),
            expression.encode(errors="surrogatepass"),
            names,
            _push(task),
        )
        encoded = self._with_options(options, payload, template)
        if key is not None:
            self._again[key] = encoded
        return encoded

    @staticmethod
    def _find(known: Mapping[K, V], key: K, options: TaskOptions) -> V | None:
        try:
            return known.get(key)
        except TypeError:  # an item that cannot be hashed is certainly invalid
            options.check()
            raise

    def _call(self, task: MapTask, options: TaskOptions) -> Encoded:
        function = task.function
        if not callable(function):
            raise TypeError(f"{function!r} is not callable")
        packed, again = self.functions.pack(function)
        named = again or packed.digest in self._seen
        if not named:
            # A function that is used once is not worth caching.
            self._seen[packed.digest] = None
        payload = pack_task(
            Kind.CALL if named else Kind.CALL_WITH,
            _flags(options),
            packed.digest if named else packed.data,
            pack_arguments(task.args, task.kwargs),
            _push(task),
        )
        # A function that is used again is sent once, and referred to by its digest from then on.
        functions = (packed,) if named else ()
        return self._with_options(options, payload, packed.template, functions)

    def _object(self, task: Any, options: TaskOptions) -> Encoded:
        payload = pack_task(Kind.OBJECT, 0, pack_object(_without_client_parts(task)))
        return self._with_options(options, payload, self.functions.template(task))

    def encode_items(
        self, options: TaskOptions, packed: Packed, items: Sequence[Sequence[Any]]
    ) -> Encoded:
        """Encode the calls of a function with several lists of arguments as one task."""
        payload = pack_task(Kind.ITEMS, 0, packed.digest, pack_object(list(items)))
        return self._with_options(options, payload, packed.template, (packed,), len(items))

    def _with_options(
        self,
        options: TaskOptions,
        payload: bytes,
        template: bytes,
        functions: tuple[Packed, ...] = (),
        weight: int = 1,
    ) -> Encoded:
        """Return an encoded task, from its payload, options and functions.

        :param template: identifies its code.
        :param weight: the number of calls in it.
        """
        depend = b""
        digests = tuple([function.digest for function in functions]) if functions else ()
        if options.depend is not None:
            packed, _ = self.functions.pack(options.depend)
            depend = packed.digest
            functions = (*functions, packed)
        key = (
            template,
            options.retries,
            options.priority,
            options.timeout,
            weight,
            depend,
            digests,
        )
        spec = self._find(self._options, key, options)
        if spec is None:
            # Options that were checked before, with the same key, are not checked again.
            options.check()
            spec = self._options[key] = OptionsSpec(
                template,
                options.retries,
                options.priority,
                float(options.timeout or 0.0),
                weight,
                depend,
                digests,
            ).pack()
        return Encoded(spec, payload, (), functions)


def _what_runs_like(kind: type) -> type:
    """Return the built-in class of tasks that does the same on the engine as ``kind``, or ``kind`` itself."""
    for base in (StringTask, MapTask):
        if issubclass(kind, base) and all(
            getattr(kind, name) is getattr(base, name) for name in _STEPS
        ):
            return base
    return kind


def _flags(options: TaskOptions) -> int:
    return (CLEAR_BEFORE if options.clear_before else 0) | (
        CLEAR_AFTER if options.clear_after else 0
    )


def _push(task: Any) -> bytes:
    push = task.push
    if not push:
        return b""
    if not isinstance(push, dict):
        try:
            push = dict(push)
        except (TypeError, ValueError):
            raise TypeError(
                f"push must be a dict of names and objects, not {type(push).__name__}"
            ) from None
    for name in pull_names(list(push)):
        check_settable(name)
    return pack_object(push)


def _without_client_parts(task: Any) -> Any:
    """Return a copy of a task object with only what the engine needs."""
    if not isinstance(task, BaseTask):
        return task
    shipped = copy.copy(task)
    return shipped.with_options(replace(options_of(task), recovery_task=None, depend=None))
