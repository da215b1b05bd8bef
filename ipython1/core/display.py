"""Displayed objects and expression results, kept as MIME bundles instead of being written to a terminal."""

from __future__ import annotations

import builtins
from typing import Any, Final

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher

from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.results import Displayed, MimeBundle

MAX_DISPLAYED: Final = 1000
"""How many objects a command may display; further ones are dropped, with a note of their number."""

MAX_DISPLAYED_BYTES: Final = 64 << 20

_SIMPLE_TYPES: Final = (bool, int, float, complex, str, bytes)


class DisplaySink:
    """Collects what the current command displays.

    :ivar bundles: the displayed objects, a list ``[data, metadata, display id]`` for each.
    :ivar result: the value of the last expression statement, with its metadata.
    :ivar live: the same for whoever watches the command.
    """

    __slots__ = ("_bytes", "_clear_next", "_dropped", "bundles", "live", "result")

    def __init__(self) -> None:
        self.live: LiveDisplays = LiveDisplays()
        self.bundles: list[list[Any]] = []
        self.result: Displayed | None = None
        self._bytes = 0
        self._dropped = 0
        self._clear_next = False

    def show(self, data: MimeBundle, metadata: dict[str, Any], display_id: str | None) -> None:
        """Display an object."""
        if self.live.wanted:
            self.live.show(data, metadata, display_id)
        self._keep(data, metadata, display_id)

    def _keep(self, data: MimeBundle, metadata: dict[str, Any], display_id: str | None) -> None:
        self._clear_if_waiting()
        size = sum(len(value) for value in data.values() if isinstance(value, (str, bytes)))
        if len(self.bundles) >= MAX_DISPLAYED or self._bytes + size > MAX_DISPLAYED_BYTES:
            self._dropped += 1
            return
        self._bytes += size
        self.bundles.append([data, metadata, display_id])

    def update(self, data: MimeBundle, metadata: dict[str, Any], display_id: str | None) -> None:
        """Update the object with this ``display_id``; display it if an earlier command had displayed it."""
        if self.live.wanted:
            self.live.update(data, metadata, display_id)
        found = False
        for bundle in self.bundles:
            if display_id is not None and bundle[2] == display_id:
                bundle[0], bundle[1] = data, metadata
                found = True
        if not found:
            self._keep(data, metadata, display_id)

    def set_result(self, data: MimeBundle, metadata: dict[str, Any]) -> None:
        """Set the value of an expression statement."""
        if self.result is not None:
            self.show(*self.result, None)
        self.result = (data, metadata)

    def clear(self, wait: bool) -> None:
        """Forget what was displayed so far; with ``wait``, only once the next object is displayed."""
        if self.live.wanted:
            self.live.clear(wait)
        self._clear_next = True
        if not wait:
            self._clear_if_waiting()

    def _clear_if_waiting(self) -> None:
        if self._clear_next:
            self._clear_next = False
            self.bundles.clear()
            self._bytes = self._dropped = 0

    def take(self) -> tuple[tuple[Displayed, ...], Displayed | None]:
        """Return everything displayed and the result, and clear the sink."""
        shown: list[Displayed] = [(data, metadata) for data, metadata, _ in self.bundles]
        if self._dropped:
            shown.append(
                (
                    {
                        "text/plain": f"[... {self._dropped} more displayed objects were dropped ...]"
                    },
                    {},
                )
            )
        result = self.result
        self.bundles = []
        self.result = None
        self._bytes = self._dropped = 0
        self._clear_next = False
        return tuple(shown), result


class CapturingPublisher(DisplayPublisher):
    """Collects objects from ``display()`` and inline figures."""

    sink: DisplaySink

    def _setup_execution_tracking(self) -> None:
        """Do not register the two callbacks per command that newer IPython versions register here."""

    def publish(
        self,
        data: MimeBundle,
        metadata: dict[str, Any] | None = None,
        source: object = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **kwargs: object,
    ) -> None:
        """Display an object; the arguments are those of IPython's method."""
        if not isinstance(data, dict):
            raise TypeError(
                f"the data of a displayed object must be a dict, not {type(data).__name__}"
            )
        display_id = (transient or {}).get("display_id")
        keep = self.sink.update if update else self.sink.show
        keep(data, metadata or {}, display_id)

    def clear_output(self, wait: bool = False) -> None:
        """Drop what this command displayed so far."""
        self.sink.clear(wait)


class CapturingHook(DisplayHook):
    """Collects values of expression statements, and sets ``_``, ``__``, ``___``, ``_N`` and ``Out[N]``."""

    sink: DisplaySink
    shell: Any
    _printers: Any = None

    @property
    def prompt_count(self) -> int:
        """The number of the current command; older IPython versions count differently."""
        number: int = self.shell.execution_count - 1
        return number

    def __call__(self, result: object = None) -> None:
        """Handle a value; called by the interpreter loop."""
        if result is None or self.quiet():
            return
        self.show(result)

    def show(self, value: object) -> None:
        """Format a value, and remember it."""
        data, metadata = self.format(value)
        self.shell.raise_problem(unless=bool(data))
        self.remember(value)
        self.fill_exec_result(value)
        if data:
            self.sink.set_result(data, metadata)

    def quiet(self) -> bool:
        """Return whether the current command ends with a semicolon, which hides its value."""
        source = self.shell.history_manager.input_hist_parsed[-1]
        if ";" not in source:
            return False
        try:
            return bool(super().quiet())
        except Exception:  # it cannot be tokenized as Python
            return False

    def format(self, value: object) -> tuple[MimeBundle, dict[str, Any]]:
        """Return a value's representations and their metadata."""
        if type(value) in _SIMPLE_TYPES and self._is_plain(type(value)):
            return {"text/plain": repr(value)}, {}
        data, metadata = self.shell.display_formatter.format(value)
        return data, metadata

    def _is_plain(self, cls: type) -> bool:
        """Return whether a built-in type is shown by its ``repr``, as no formatter is registered for it."""
        if self._printers is None:
            formatter = self.shell.display_formatter
            plain = formatter.formatters["text/plain"]
            usual = {each: plain.type_printers.get(each) for each in _SIMPLE_TYPES}
            others = [
                each.type_printers for each in formatter.formatters.values() if each is not plain
            ]
            others.append(formatter.ipython_display_formatter.type_printers)
            others.append(formatter.mimebundle_formatter.type_printers)
            self._printers = (plain, usual, others)
        plain, usual, others = self._printers
        if plain.type_printers.get(cls) is not usual[cls]:
            return False
        if cls is float and plain.float_format != "%r":
            return False
        return not any(cls in printers for printers in others)

    def remember(self, value: Any) -> None:
        """Make a value available as ``_``, ``_N`` and ``Out[N]``."""
        namespace = self.shell.user_ns
        kept = namespace.get("_oh")
        if not isinstance(kept, dict) or value is kept:
            return
        if len(kept) >= self.cache_size:
            self._forget_oldest(kept)
        untouched = "_" not in builtins.__dict__ and all(
            name not in namespace or namespace[name] is getattr(self, name)
            for name in ("_", "__", "___")
        )
        self.___, self.__, self._ = self.__, self._, value
        if untouched:
            namespace["_"], namespace["__"], namespace["___"] = self._, self.__, self.___
        number = self.prompt_count
        kept[number] = value
        namespace[f"_{number}"] = value

    def _forget_oldest(self, kept: dict[int, object]) -> None:
        for number in list(kept)[: max(int(len(kept) * self.cull_fraction), 1)]:
            del kept[number]
            self.shell.user_ns.pop(f"_{number}", None)

    def flush(self) -> None:
        """Forget all values, without the full garbage collection of the base class."""
        kept = self.shell.user_ns.get("_oh")
        if isinstance(kept, dict):
            for number in kept:
                self.shell.user_ns.pop(f"_{number}", None)
            kept.clear()
        self.forget()
        if "_" not in builtins.__dict__:
            self.shell.user_ns.update({"_": "", "__": "", "___": ""})

    def forget(self) -> None:
        """Drop this object's own references to values."""
        self._: str = ""
        self.__: str = ""
        self.___: str = ""
