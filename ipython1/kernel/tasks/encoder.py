"""Encoding of tasks as bytes, in a client."""

from __future__ import annotations

import os
import threading
import types
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

from ipython1.core.texts import type_name
from ipython1.kernel.objects.after import Both, Properties
from ipython1.kernel.objects.codenames import globals_of
from ipython1.kernel.objects.taskchecks import (
    check_args,
    check_expression,
    check_function,
    check_kwargs,
    pull_names,
)
from ipython1.kernel.objects.taskcodec import (
    NO_ARGUMENTS,
    SHARED,
    Kind,
    digest,
    object_section,
    pack_arguments,
    pack_object,
    pack_task,
)
from ipython1.kernel.objects.taskobjects import (
    MapTask,
    StringTask,
    template_of,
)
from ipython1.kernel.objects.taskoptions import (
    DEFAULTS,
    TaskOptions,
    all_values,
    check_options,
    options_of,
)
from ipython1.kernel.objects.watch import Watch
from ipython1.kernel.tasks.runningoutput import flags_of, live_flag
from ipython1.kernel.tasks.taskparts import (
    few_words,
    first_line,
    packed_push,
    what_runs_like,
    without_client_parts,
)
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import OptionsSpec

K = TypeVar("K")
V = TypeVar("V")

_SOURCE: Final = Kind.SOURCE
_CALL: Final = Kind.CALL

_SEEN: Final = 1024
"""Places for the last expressions, by their hash; a power of two."""

_LONG: Final = 4096
"""Characters of an expression from which tasks are not kept for the next one."""


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
    :ivar steady: whether calls cannot change what it brings along.
    :ivar what: its name, for people who look at queues.
    """

    digest: bytes
    data: bytes
    template: bytes
    steady: bool = True
    what: str = ""

    def for_one_map(self) -> Packed:
        """Return the function under a name of its own, if the map's calls on an engine share what they may change."""
        return self if self.steady else replace(self, digest=digest(self.digest + os.urandom(16)))

    @property
    def map_flags(self) -> int:
        """The flags of the map's tasks."""
        return live_flag() | (0 if self.steady else SHARED)


class Encoded(NamedTuple):
    """An encoded task; a tuple for speed, as one is created for each task.

    :ivar functions: the functions that must be sent before it, unless they already were.
    """

    options: bytes
    payload: Bytes
    recovery: Sequence[tuple[bytes, Bytes]] = ()
    functions: Sequence[Packed] = ()


class Prepared(NamedTuple):
    """What all tasks of a map have in common, packed at the time of the call.

    :ivar recovery: the recovery tasks of each task, and before them what it says of other tasks.
    :ivar functions: the functions of these.
    """

    options: TaskOptions
    function: Packed
    depend: Packed | None
    recovery: Sequence[tuple[bytes, Bytes]]
    functions: Sequence[Packed]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A packed function, valid as long as nothing that was packed with it has changed."""

    function: Any
    packed: Packed
    watch: Watch


class FunctionPacker:
    """Packs functions, each only once unless it changes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: Recent[int, _Kept] = Recent(256)
        self._templates: Recent[int, tuple[Any, bytes]] = Recent(1024)

    def pack(self, function: Any) -> tuple[Packed, bool]:
        """Pack a function.

        :returns: the packed function, and whether the same object was packed before.
        :raises SerializationError: if it cannot be pickled.
        """
        kept = self._kept.get(id(function))
        if kept is not None and kept.function is function and kept.watch.unchanged():
            return kept.packed, True
        with self._lock:
            # What is watched is noted first: what changes meanwhile is found to have changed.
            watch = Watch(function, globals_of, watch_names=True)
            data = bytes(pack_object(function))
            template, what = self.template(function), few_words(function)
            packed = Packed(digest(data), data, template, watch.steady, what)
            if watch.steady:
                self._kept[id(function)] = _Kept(function, packed, watch)
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
        self.functions: FunctionPacker = FunctionPacker()
        self._options: Recent[tuple[Any, ...], bytes] = Recent(4096)
        self._templates: Recent[str, tuple[bytes, bytes]] = Recent(4096)
        self._sources: list[str] = [""] * _SEEN
        self._seen: Recent[bytes, None] = Recent(4096)
        self._again: Recent[tuple[Any, ...], Encoded] = Recent(1024)
        self._both: Recent[tuple[int, int], Both] = Recent(64)
        self._calls: Recent[int, tuple[Packed, bytes, tuple[Packed]]] = Recent(256)

    def encode(self, task: Any, private: bool = False) -> Encoded:
        """Encode a task and its recovery tasks.

        :param private: whether only this client will read the result.
        :raises TypeError, ValueError: if the task or one of its options is invalid.
        :raises SerializationError: if it cannot be pickled.
        """
        kind = type(task)
        plain = kind is StringTask or kind is MapTask
        options = task._options if plain else options_of(task)
        if options.recovery_task is None and not options.after and not options.follow:
            # Options are checked when they are packed, which happens once for many tasks.
            return self._one(task, options, private)
        check_options(options, task)
        encoded = self._one(task, options, private)
        recovery, functions = self._companions(options)
        return Encoded(encoded.options, encoded.payload, recovery, [*encoded.functions, *functions])

    def _companions(self, options: TaskOptions) -> tuple[list[tuple[bytes, Bytes]], list[Packed]]:
        """Encode what goes with a task: what it says of others, and its recovery tasks."""
        recovery, functions = self._recovery(options)
        links = options.links
        return recovery if links is None else [(links, b""), *recovery], functions

    def _recovery(self, options: TaskOptions) -> tuple[list[tuple[bytes, Bytes]], list[Packed]]:
        """Encode the recovery tasks of a task with these options; return them and their functions."""
        recovery: list[tuple[bytes, Bytes]] = []
        functions: list[Packed] = []
        while (following := options.recovery_task) is not None:
            options = options_of(following)
            one = self._one(following, options)
            recovery.append((one.options, one.payload))
            functions += one.functions
        return recovery, functions

    def _one(self, task: Any, options: TaskOptions, private: bool = False) -> Encoded:
        kind = task.__class__
        if kind is not StringTask and kind is not MapTask:
            kind = what_runs_like(kind)
        if kind is StringTask:
            return self._source(task, options, private)
        if kind is MapTask:
            return self._call(task, options, private)
        return self._object(task, options, private)

    def _source(self, task: StringTask, options: TaskOptions, private: bool) -> Encoded:
        expression = task.expression
        if type(expression) is not str:
            check_expression(expression)
        pull, push = task.pull, task.push
        key = None
        if (
            not push
            and options.depend is None
            and not isinstance(options.targets, Properties)
            and (pull is None or type(pull) is str)
            and len(expression) < _LONG
        ):
            plain = options is DEFAULTS and not private
            wanted = (
                (expression, pull) if plain else (expression, pull, all_values(options), private)
            )
            again = self._find(self._again, wanted, options)
            if again is not None:
                return again
            place = hash(expression) % _SEEN
            if self._sources[place] == expression:
                # The same code as before: the whole task is probably the same the next time.
                key = wanted
            else:
                self._sources[place] = expression
        names = b"" if pull is None else "\n".join(pull_names(pull)).encode()
        body = expression.encode(errors="surrogatepass")
        payload = pack_task(
            _SOURCE, flags_of(options), body, names, packed_push(task) if push else b""
        )
        template, spec = self._template(expression)
        if options is DEFAULTS and not private:
            encoded = Encoded(spec, payload)
        else:
            encoded = self._with_options(
                options, payload, template, private=private, what=expression
            )
        if key is not None:
            self._again[key] = encoded
        return encoded

    def _template(self, expression: str) -> tuple[bytes, bytes]:
        """Return the identifier of code that differs in numbers only, and the packed default options of its tasks."""
        text = template_of(expression)
        found = self._templates.get(text)
        if found is None:
            template = digest(text)
            options = self._with_options(DEFAULTS, b"", template, what=expression).options
            found = self._templates[text] = (template, options)
        return found

    @staticmethod
    def _find(known: Mapping[K, V], key: K, options: TaskOptions) -> V | None:
        try:
            return known.get(key)
        except TypeError:  # an item that cannot be hashed is certainly invalid
            options.check()
            raise

    def _call(self, task: MapTask, options: TaskOptions, private: bool) -> Encoded:
        function = task.function
        if not callable(function):
            check_function(function)
        packed, again = self.functions.pack(function)
        named = again or packed.digest in self._seen
        if not named:
            # A function that is used once is not worth caching.
            self._seen[packed.digest] = None
        args, kwargs = task.args, task.kwargs
        try:
            arguments = pack_arguments(args, kwargs) if args or kwargs else NO_ARGUMENTS
        except TypeError:  # they were set after the task was made
            check_args(args)
            check_kwargs(kwargs)
            raise
        push = packed_push(task) if task.push else b""
        if named and options is DEFAULTS and not private:
            # A function that is used again is sent once, and referred to by its digest from then on.
            payload = pack_task(_CALL, 0, packed.digest, arguments, push)
            known = self._calls.get(id(packed))
            if known is None or known[0] is not packed:
                encoded = self._with_options(
                    options, payload, packed.template, (packed,), what=packed.what
                )
                self._calls[id(packed)] = (packed, encoded.options, (packed,))
                return encoded
            return Encoded(known[1], payload, (), known[2])
        payload = pack_task(
            _CALL if named else Kind.CALL_WITH,
            flags_of(options),
            packed.digest if named else packed.data,
            arguments,
            push,
        )
        return self._with_options(
            options,
            payload,
            packed.template,
            (packed,) if named else (),
            private=private,
            what=packed.what,
        )

    def _object(self, task: Any, options: TaskOptions, private: bool) -> Encoded:
        payload = pack_task(Kind.OBJECT, 0, object_section(without_client_parts(task)))
        template, what = self.functions.template(task), type_name(task)
        return self._with_options(options, payload, template, private=private, what=what)

    def _condition(self, options: TaskOptions) -> Any:
        """Return the function of an engine's properties that says whether it suits; None for any engine.

        It is the same object for the same options, as it is packed once.
        """
        targets, depend = options.targets, options.depend
        if not isinstance(targets, Properties):
            return depend
        if depend is None:
            return targets
        key = (id(targets), id(depend))
        both = self._both.get(key)
        if both is None or both.wanted is not targets or both.depend is not depend:
            both = self._both[key] = Both(targets, depend)
        return both

    def prepare(self, function: Any, options: TaskOptions) -> Prepared:
        """Pack everything that the tasks of a map have in common.

        :raises TypeError, ValueError: if an option is invalid.
        :raises SerializationError: if it cannot be pickled.
        """
        options.check()
        packed = self.functions.pack(function)[0].for_one_map()
        depend = None
        condition = self._condition(options)
        if condition is not None:
            depend, _ = self.functions.pack(condition)
        return Prepared(options, packed, depend, *self._companions(options))

    def encode_items(self, prepared: Prepared, items: Sequence[Sequence[Any]]) -> Encoded:
        """Encode the calls of a map with several lists of arguments as one task."""
        packed = prepared.function
        extra = object_section(list(items))
        payload = pack_task(Kind.ITEMS, packed.map_flags, packed.digest, extra)
        encoded = self._with_options(
            prepared.options,
            payload,
            packed.template,
            (packed,),
            len(items),
            prepared.depend,
            packed.what,
            private=True,
        )
        # What is grouped has no recovery tasks.
        return encoded._replace(recovery=prepared.recovery) if prepared.recovery else encoded

    def encode_item(self, prepared: Prepared, args: Sequence[Any]) -> Encoded:
        """Encode one call of a map as a task with the same options and recovery tasks as a ``MapTask`` has."""
        packed = prepared.function
        flags = flags_of(prepared.options) | packed.map_flags
        payload = pack_task(Kind.CALL, flags, packed.digest, pack_arguments(args, {}))
        encoded = self._with_options(
            prepared.options,
            payload,
            packed.template,
            (packed,),
            depend=prepared.depend,
            what=packed.what,
            private=True,
        )
        functions = (*encoded.functions, *prepared.functions)
        return Encoded(encoded.options, payload, prepared.recovery, functions)

    def encode_call(
        self,
        options: TaskOptions,
        packed: Packed,
        function: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Encoded:
        """Encode the call of a packed function with another one, a sequence of its arguments, and a dict of them."""
        extra = pack_arguments((function, tuple(args), dict(kwargs)), {})
        payload = pack_task(Kind.CALL, flags_of(options), packed.digest, extra)
        template = self.functions.template(function)
        what = few_words(function)
        encoded = self._with_options(options, payload, template, (packed,), what=what, private=True)
        links = options.links
        return encoded if links is None else encoded._replace(recovery=[(links, b"")])

    def _with_options(
        self,
        options: TaskOptions,
        payload: Bytes,
        template: bytes,
        functions: tuple[Packed, ...] = (),
        weight: int = 1,
        depend: Packed | None = None,
        what: str = "",
        private: bool = False,
    ) -> Encoded:
        """Return an encoded task, from its payload, options and functions.

        :param template: identifies its code.
        :param weight: the number of calls in it.
        :param depend: its dependency function, if that was packed before.
        :param what: what it does; its first line is told to people who look at queues.
        :param private: whether only this client will read the result.
        """
        dependency = b""
        digests = tuple([function.digest for function in functions]) if functions else ()
        targets = options.targets
        if options.depend is not None or isinstance(targets, Properties):
            if depend is None:
                depend, _ = self.functions.pack(self._condition(options))
            dependency = depend.digest
            functions = (*functions, depend)
        key = (
            template,
            options.retries,
            options.priority,
            options.timeout,
            weight,
            dependency,
            digests,
            private,
            True if isinstance(targets, Properties) else targets,
        )
        spec = self._find(self._options, key, options)
        if spec is None:
            spec = self._pack_options(options, key, what)
        return Encoded(spec, payload, (), functions)

    def _pack_options(self, options: TaskOptions, key: tuple[Any, ...], what: str) -> bytes:
        # Options that were checked before, with the same key, are not checked again.
        options.check()
        template, retries, priority, timeout, weight, depend, functions, private, targets = key
        limit, words = float(timeout or 0.0), first_line(what)
        spec = OptionsSpec(
            template, retries, priority, limit, weight, depend, functions, private, words
        )
        if targets is True:
            spec = replace(spec, by_properties=True)
        elif targets is not None:
            spec = replace(spec, targets=targets)
        packed = self._options[key] = spec.pack()
        return packed
