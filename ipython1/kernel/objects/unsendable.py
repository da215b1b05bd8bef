"""Which part of an object cannot be sent: what an error names."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final

from ipython1.core.interrupt import raised_by_handler

_DEPTH: Final = 6
_WIDTH: Final = 1000


def find_unsendable(value: object, dumps: Callable[[Any], object]) -> str:
    """Describe the part of ``value`` that cannot be pickled, such as ``the attribute 'lock' of class Model``.

    :param dumps: pickles, or raises.
    :returns: the description of the innermost part that has a name; empty if none has.
    """
    found = ""
    seen: set[int] = set()
    for _ in range(0 if isinstance(value, Future) else _DEPTH):
        seen.add(id(value))
        for label, part in _parts(value):
            if id(part) in seen or _can_be_sent(part, dumps):
                continue
            if isinstance(part, Future):
                return described(part)
            found = f"{label}, {described(part)}," if label else found
            value = part
            break
        else:
            break
    return found


def _can_be_sent(part: object, dumps: Callable[[Any], object]) -> bool:
    try:
        dumps(part)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        if raised_by_handler(problem):
            raise
        return False
    return True


def described(value: object) -> str:
    """Describe an object by its type, as errors do."""
    kind = type(value)
    text = f"an object of type {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")
    return f"{text} (give its result() instead)" if isinstance(value, Future) else text


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an object, with what to call them; without a name for the items of containers."""
    if isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, types.MethodType):
        yield "", value.__self__
        yield "", value.__func__
    elif isinstance(value, type):
        for name, each in list(vars(value).items()):
            if not isinstance(each, (types.GetSetDescriptorType, types.MemberDescriptorType)):
                yield f"the attribute {name!r} of class {value.__qualname__}", each
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from (("", each) for each in list(value)[:_WIDTH])
    elif isinstance(value, dict):
        for key, each in list(value.items())[:_WIDTH]:
            yield (f"the item {key!r}" if isinstance(key, str) else ""), each
    else:
        wrapped = inspect.getattr_static(value, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):
            yield "", wrapped
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            for name, each in list(attributes.items()):
                yield (
                    f"the attribute {name!r} of an object of class {type(value).__qualname__}",
                    each,
                )
        if not isinstance(type(value), type) or type(value).__module__ == "__main__":
            yield "", type(value)


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    name = function.__qualname__
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    for variable, cell in cells:
        try:
            yield f"the variable {variable!r} of {name}()", cell.cell_contents
        except ValueError:
            continue
    for each in function.__defaults__ or ():
        yield f"a default of {name}()", each
    for argument, each in (function.__kwdefaults__ or {}).items():
        yield f"the default of {argument!r} of {name}()", each
    for attribute, each in vars(function).items():
        yield f"the attribute {attribute!r} of {name}()", each
