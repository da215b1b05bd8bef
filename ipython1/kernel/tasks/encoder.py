"""Tasks to bytes, in a client."""

from __future__ import annotations

import copy
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

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
    """A dict that forgets what was set first, beyond a number of entries."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._most:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Packed:
    """A function as bytes.

    :ivar template: names what it does, whatever it has closed over.
    """

    digest: bytes
    data: bytes
    template: bytes


class Encoded(NamedTuple):
    """A task as bytes; a tuple because one is made for each task.

    :ivar functions: what must be sent before it, if it was not yet.
    """

    options: bytes
    payload: bytes
    recovery: Sequence[tuple[bytes, bytes]] = ()
    functions: Sequence[Packed] = ()


class _Kept:
    """A packed function, good as long as nothing it was packed with has changed."""

    __slots__ = ("_cells", "_globals", "function", "packed")

    def __init__(self, function: Any, packed: Packed) -> None:
        self.function = function
        self.packed = packed
        self._cells: list[tuple[Any, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []

    def depend_on(self, function: types.FunctionType, seen: set[int]) -> bool:
        """Note what ``function`` takes along; False when some of that can change unnoticed."""
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
        """Whether all is as it was."""
        for cell, value in self._cells:
            if cell.cell_contents is not value:
                return False
        for namespace, name, value in self._globals:  # noqa: SIM110 (this is on the hot path)
            if namespace.get(name) is not value:
                return False
        return True


def travels_by_value(function: types.FunctionType) -> bool:
    """Whether a function is sent as code, and not as the name of a module and a function in it."""
    return function.__module__ == _MAIN or "<" in function.__qualname__


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


class FunctionPacker:
    """Packs functions, each once as long as it stays the same."""

    def __init__(self) -> None:
        self._kept: Recent[int, _Kept] = Recent(256)
        self._templates: Recent[int, tuple[Any, bytes]] = Recent(1024)

    def pack(self, function: Any) -> tuple[Packed, bool]:
        """A function's bytes, and whether this very function was packed before.

        :raises SerializationError: when it cannot be pickled.
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
        """Names what a function does, by its code alone."""
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
    """Turns tasks into bytes."""

    def __init__(self) -> None:
        self.functions = FunctionPacker()
        self._options: Recent[tuple[Any, ...], bytes] = Recent(4096)
        self._templates: Recent[str, bytes] = Recent(4096)
        self._seen: Recent[bytes, None] = Recent(4096)
        self._again: Recent[tuple[Any, ...], Encoded] = Recent(1024)

    def encode(self, task: Any) -> Encoded:
        """A task and its recovery tasks as bytes.

        :raises TypeError, ValueError: when something is wrong with it.
        :raises SerializationError: when something in it cannot be pickled.
        """
        options = options_of(task)
        if options.recovery_task is None:
            # Options are checked where they are packed, which happens once for many tasks.
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
            # The same code as before: most probably all of it is the same.
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
        except TypeError:  # something in it cannot be hashed, and is certainly wrong
            options.check()
            raise

    def _call(self, task: MapTask, options: TaskOptions) -> Encoded:
        function = task.function
        if not callable(function):
            raise TypeError(f"{function!r} is not callable")
        packed, again = self.functions.pack(function)
        named = again or packed.digest in self._seen
        if not named:
            # A function that is used once is not worth keeping everywhere.
            self._seen[packed.digest] = None
        payload = pack_task(
            Kind.CALL if named else Kind.CALL_WITH,
            _flags(options),
            packed.digest if named else packed.data,
            pack_arguments(task.args, task.kwargs),
            _push(task),
        )
        # One that is used again is sent once, and named from then on.
        functions = (packed,) if named else ()
        return self._with_options(options, payload, packed.template, functions)

    def _object(self, task: Any, options: TaskOptions) -> Encoded:
        payload = pack_task(Kind.OBJECT, 0, pack_object(_without_client_parts(task)))
        return self._with_options(options, payload, self.functions.template(task))

    def encode_items(
        self, options: TaskOptions, packed: Packed, items: Sequence[Sequence[Any]]
    ) -> Encoded:
        """A call of a function with each of several lists of arguments."""
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
        """What was encoded, together with its options and the functions it needs.

        :param template: names what it does.
        :param weight: how many calls it is.
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
            # What was checked before under the same key is not checked again.
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
    """The class of tasks that does on the engine just what this one does; itself if there is none."""
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
    pull_names(list(push))
    return pack_object(push)


def _without_client_parts(task: Any) -> Any:
    """What the engine needs of a task object."""
    if not isinstance(task, BaseTask):
        return task
    shipped = copy.copy(task)
    return shipped.with_options(replace(options_of(task), recovery_task=None, depend=None))
