"""Where functions of ``__main__`` run when they come from another process.

What a function brings along belongs to the call that brought it.  All functions that arrive together share globals of
their own (:class:`CallGlobals`): what they brought, and the names of the *home* over it, which is the namespace of the
engine, or the user's session in a client.  So the names that are defined at home win, and nothing is written there
except what the functions' own ``global`` statements write.

These globals are a dict like any other, so functions made at run time, class bodies, generator expressions and ``eval``
see the same names.  A dict cannot follow another one, so the two are brought up to date where code of the one hands
over to code of the other:

==================================  ==============================  =============================================
when                                names of home -> the globals    written by ``global`` -> home
==================================  ==============================  =============================================
a call or a task begins             refreshed
it ends                                                             carried back
code at home calls a function that  refreshed                       carried back, also from the globals of the
was pushed (an *entry*), and that                                   caller before, which are refreshed after
returns
a command begins                    refreshed (those that are kept)
==================================  ==============================  =============================================

Functions that bring nothing along run in the home's namespace itself.

A value that was brought, and that a function sets again with ``global``, is looked up among the builtins, of which such
globals have their own: so it is seen that the function has set the name, even if to the same value.
"""

from __future__ import annotations

import builtins
import functools
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from operator import is_
from threading import get_ident
from types import FunctionType
from typing import Any, Final

from ipython1.core.failures import MISSING_KEY

GLOBALS_KEY: Final = "__ipython1_globals__"
"""In globals of their own: the :class:`CallGlobals` they belong to, which lives as long as they do."""

ENTRY_KEY: Final = "__ipython1_entry__"
"""In the ``__dict__`` of an entry: the function itself."""

_OF_THE_SESSION: Final = re.compile(r"_+|_\d+|_i+\d*|_[dio]h|In|Out|__\w+__")
"""Names that every session has, whether or not its user wants them."""

_WARNED: Final = "__warningregistry__"
"""Where Python keeps which warnings the code with these globals has given."""

_KEPT_APART: Final = frozenset({GLOBALS_KEY, MISSING_KEY, "__builtins__", _WARNED})


class Home:
    """The namespace that functions find when they arrive.

    :param names: the namespace itself.
    :param hidden: names and values that the session has put there, not its user.
    :ivar missed: whether functions arrived in the present call that could not share the globals of a function which is
        kept for other calls.
    """

    def __init__(
        self, names: MutableMapping[str, Any], hidden: Mapping[str, Any] | None = None
    ) -> None:
        self.names = names
        self.hidden: Mapping[str, Any] = {} if hidden is None else hidden
        self._kept: weakref.WeakSet[CallGlobals] = weakref.WeakSet()
        self._keeps = False
        self._seen: dict[str, Any] = {}
        # Calls run in one thread; threads of user code may enter functions as well.
        self._thread = 0
        self._stack: list[list[CallGlobals]] = []
        self._of_call: dict[str, CallGlobals] = {}
        self._others = _Active()
        self.missed: bool = False

    def owns(self, name: str) -> bool:
        """Whether the user has defined ``name`` here."""
        if name not in self.names or _OF_THE_SESSION.fullmatch(name):
            return False
        return self.hidden.get(name, self) is not self.names[name]

    # -- calls

    def begin(self) -> None:
        """Code begins to run here: a command, a task, or a call."""
        global _running
        _running = self
        self._thread = get_ident()
        # An interrupt may have come before the end of the last one was noted.
        self._stack = [[]]
        if self._of_call:
            self._of_call = {}
        self.missed = False
        # What was warned of before is news to whoever sent this.
        self.names.pop(_WARNED, None)
        if self._keeps and not _same(self.names, self._seen):
            self._seen = dict(self.names)
            for each in list(self._kept):
                each.refresh()

    def end(self) -> None:
        """It has ended: carry back what it wrote."""
        stack, self._stack = self._stack, []
        for arrived in stack:
            for each in arrived:
                each.carry_back()

    def take_part(self, arrived: Iterable[CallGlobals]) -> None:
        """These globals take part in the call that runs."""
        if self._stack:
            of_call = self._of_call
            for each in arrived:
                self._stack[-1].append(each)
                known = of_call.get(each.origin)
                if known is None or not known.open:
                    of_call[each.origin] = each

    def of_call(self, origin: str) -> CallGlobals | None:
        """Return the globals that functions of the same origin have in the present call, for others to share."""
        known = self._of_call.get(origin) if self._stack else None
        if known is not None and not known.open:
            self.missed = True
            return None
        return known

    def keep_those_of_call(self) -> bool:
        """What the present call brought sees later what is defined later; False if it brought nothing."""
        active = self._active()
        for each in active:
            self.keep(each)
        return bool(active)

    def about_to_change(self) -> None:
        """Code of the call is about to look at the namespace, or to change it."""
        for each in self._active():
            each.carry_back()

    def changed(self) -> None:
        """The namespace was changed while a call runs."""
        for each in self._active():
            each.refresh()

    @property
    def is_shared(self) -> bool:
        """Whether functions with globals of their own take part in the present call."""
        return bool(self._active())

    @contextmanager
    def itself(self) -> Iterator[None]:
        """Code of the call runs in the namespace itself."""
        self.about_to_change()
        stack = self._stack_here()
        stack.append([])
        try:
            yield
        finally:
            stack.pop()
            self.changed()

    def _active(self) -> list[CallGlobals]:
        stack = self._stack_here()
        return stack[-1] if stack else []

    def _stack_here(self) -> list[list[CallGlobals]]:
        return self._stack if get_ident() == self._thread else self._others.stack

    def call_in(self, arrived: list[CallGlobals], call: Callable[[], Any]) -> Any:
        """Call something whose functions have other globals than the code that runs."""
        __tracebackhide__ = True
        active = self._active()
        if active and all(each in active for each in arrived):
            return call()
        self.about_to_change()
        for each in arrived:
            each.refresh()
        stack = self._stack_here()
        stack.append(arrived)
        try:
            return call()
        finally:
            stack.pop()
            for each in arrived:
                each.carry_back()
            self.changed()

    def keep(self, kept: CallGlobals) -> None:
        """These globals see later what is defined later."""
        self._kept.add(kept)
        self._keeps = True


_running: Home | None = None


def settle() -> None:
    """Let all functions that take part in the present call see what one of them has written with ``global``."""
    if _running is not None:
        _running.about_to_change()
        _running.changed()


class _Active(threading.local):
    """For each other thread, the globals that take part in what runs; the innermost call last."""

    def __init__(self) -> None:
        self.stack: list[list[CallGlobals]] = []


class CallGlobals:
    """The globals of functions that arrived together.

    :param home: what is defined here wins.
    :param origin: names the globals that the functions have where they come from.
    :param set_again: whether functions set names that they bring along.
    :ivar open: whether functions of the same origin that arrive later in the call may share them.
    :ivar names: the dict itself.
    :ivar brought: what the functions brought along.
    """

    def __init__(self, home: Home, origin: str = "", set_again: bool = False) -> None:
        self._home = home
        self.origin = origin
        self.open: bool = True
        self._writes = False
        self._set_again: set[str] = set()
        self._lock = threading.RLock()
        self._home_seen = dict(home.names)
        self.names: dict[str, Any] = dict(self._home_seen)
        self.names[GLOBALS_KEY] = self
        self._own_builtins = set_again
        if set_again:
            self.names["__builtins__"] = dict(vars(builtins))
        self._merged = dict(self.names)
        self.brought: dict[str, Any] = {}

    def bring(
        self,
        names: Mapping[str, Any],
        missing: Mapping[str, str],
        writes: bool = False,
        set_again: Iterable[str] = (),
    ) -> None:
        """A function brings names along.

        :param missing: names that did not come, and why.
        :param writes: whether it may set or delete names at all.
        :param set_again: those among ``names`` that it sets.
        """
        self._writes = self._writes or writes
        for name, value in names.items():
            # What the call brought first, it may have changed since.
            self.brought.setdefault(name, value)
        if self._own_builtins:
            # Functions that share globals which were made without get along without it.
            self._set_again.update(set_again)
        for name in (*names, *set_again):
            if name in self.brought and not self._home.owns(name):
                self._place(name)
        if missing:
            self.names.setdefault(MISSING_KEY, {}).update(missing)
        self._merged = dict(self.names)

    def _place(self, name: str) -> None:
        """Make what was brought visible under its name."""
        if name in self._set_again:
            self.names.pop(name, None)
            self.names["__builtins__"][name] = self.brought[name]
        else:
            self.names[name] = self.brought[name]

    def refresh(self) -> None:
        """Take over what has changed at home."""
        with self._lock:
            self.carry_back()
            names, home = self.names, self._home.names
            if names.pop(_WARNED, None) is not None:
                self._merged.pop(_WARNED, None)
            if _same(home, self._home_seen):
                return
            before, now = self._home_seen, dict(home)
            own_builtins = names["__builtins__"] if self._set_again else None
            for name in before.keys() - now.keys():
                names.pop(name, None)
            names.update(now)
            if own_builtins is not None:
                names["__builtins__"] = own_builtins
            for name in self.brought:
                if not self._home.owns(name):
                    self._place(name)
            self._home_seen = now
            self._merged = dict(names)

    def carry_back(self) -> None:
        """Define at home what functions have written with ``global``."""
        if not self._writes:
            return
        with self._lock:
            names, merged = self.names, self._merged
            if _same(names, merged):
                return
            now = dict(names)
            home, seen = self._home.names, self._home_seen
            for name, value in now.items():
                if merged.get(name, _NOTHING) is not value and name not in _KEPT_APART:
                    home[name] = seen[name] = value
                    self._home.keep(self)
            for name in merged.keys() - now.keys():
                home.pop(name, None)
                seen.pop(name, None)
                self.brought.pop(name, None)
            self._merged = now


_NOTHING: Final = object()


def _same(one: MutableMapping[str, Any], other: dict[str, Any]) -> bool:
    """Whether two dicts hold the same objects in the same order.  Compares without calling their ``__eq__``."""
    try:
        return (
            len(one) == len(other)
            and list(one) == list(other)
            and all(map(is_, one.values(), other.values()))
        )
    except RuntimeError:  # another thread has just changed one
        return False


def make_entry(function: Any, home: Home) -> Any:
    """A function that can be called at any time from code at home.

    :param function: what arrived.  Anything but a plain function with globals of its own is returned as it is.
    """
    if not isinstance(function, FunctionType):
        return function
    own = function.__globals__.get(GLOBALS_KEY)
    if own is None:
        return function
    arrived = [own]

    @functools.wraps(function)
    def entry(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return home.call_in(arrived, lambda: function(*args, **kwargs))

    entry.__dict__[ENTRY_KEY] = function
    return entry
