"""The card of a cluster that notebooks with ``ipywidgets`` show: kept up to date, with buttons to scale and stop it.

A thread looks at the cluster's state file once a second and sends what has changed, also while the kernel is busy.
What the buttons do, which the kernel learns of when it is idle, runs in a thread of its own.  Neither keeps the cluster
alive: the thread ends with the cluster, and the widgets are closed when the cluster is gone.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipython1.core.texts import clip, compress_ids
from ipython1.kernel.clusters.clusterforms import cluster_html, known_status
from ipython1.kernel.clusters.status import ClusterStatus
from ipython1.kernel.host.security import ClusterFiles
from ipython1.notebook.cards import BAD, GOOD, WAITING, dot
from ipython1.notebook.frontend import FrontEnd, front_end
from ipython1.notebook.html import escape

if TYPE_CHECKING:
    import ipywidgets

INTERVAL: Final = 1.0
"""Seconds between two looks at the state."""

CONFIRM_WITHIN: Final = 5.0
"""Seconds within which a button that ends something has to be pressed again."""

VIEW: Final = "application/vnd.jupyter.widget-view+json"

MOST_ENGINES: Final = 100_000


class ShownCluster(Protocol):
    """A ``Cluster``, as this module uses it."""

    @property
    def files(self) -> ClusterFiles: ...

    @property
    def _is_connected(self) -> bool: ...

    def _card_title(self) -> str: ...

    def status(self) -> ClusterStatus: ...

    def add_engines(self, n: int = 1) -> list[int]: ...

    def remove_engines(self, ids: list[int]) -> None: ...

    def stop(self) -> None: ...


class LiveCard:
    """Gives a cluster the card that changes and has buttons."""

    _control: Any

    @property
    def _is_connected(self) -> bool:
        """Whether it was started or attached to, and neither stopped nor closed since."""
        return self._control is not None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        cluster: Any = self
        return widget_bundle(cluster)


_widgets: weakref.WeakKeyDictionary[ShownCluster, ClusterWidget] = weakref.WeakKeyDictionary()


def widget_bundle(cluster: ShownCluster) -> dict[str, Any]:
    """Return the representation of a cluster's widget; empty where none can be shown.

    A cluster has one widget, however often it is displayed, until it is stopped.
    """
    if front_end() is not FrontEnd.NOTEBOOK or not cluster._is_connected:
        return {}
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return {}
    widget = _widgets.get(cluster)
    if widget is None or widget.ended:
        if widget is not None:
            widget.close()
        widget = _widgets[cluster] = ClusterWidget(cluster)
        widget.start()
    return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.box.model_id}}


class _Confirmed:
    """A button that acts when it is pressed twice, where something would be lost."""

    def __init__(self, button: ipywidgets.Button, act: Callable[[], None]) -> None:
        self.button = button
        self._act = act
        self._usual = button.description
        self._until = 0.0
        self._asked = ""
        button.on_click(lambda _: self.pressed())
        self.question: Callable[[], str] = lambda: ""

    def pressed(self) -> None:
        question = self.question()
        if question and not (question == self._asked and time.monotonic() < self._until):
            self._asked = question
            self._until = time.monotonic() + CONFIRM_WITHIN
            self.button.description = question
            self.button.button_style = "danger"
            return
        self.calm()
        self._act()

    def calm(self) -> None:
        self._asked = ""
        self.button.description = self._usual
        self.button.button_style = ""

    def tick(self) -> None:
        """Forget that it was pressed, after a while."""
        if self._asked and time.monotonic() > self._until:
            self.calm()


class ClusterWidget:
    """The widgets of a cluster's card.

    :ivar box: the widget that contains the others.
    :ivar ended: whether the cluster is gone, so that nothing changes any more.
    """

    def __init__(self, cluster: ShownCluster) -> None:
        import ipywidgets

        self._cluster = weakref.ref(cluster)
        self._title = cluster._card_title()
        self._files = cluster.files
        self._seen: object = None
        self._count = 0
        self._acting = False
        self._lock = threading.Lock()
        self.ended: bool = False
        small = ipywidgets.Layout(width="auto")
        self.card: Any = ipywidgets.HTML()
        self.number: Any = ipywidgets.BoundedIntText(
            0, 0, MOST_ENGINES, description="engines", layout=ipywidgets.Layout(width="160px")
        )
        scale = ipywidgets.Button(
            description="Scale",
            tooltip="start or end engines until there are so many",
            layout=small,
        )
        stop = ipywidgets.Button(
            description="Stop", tooltip="end the cluster and all its engines", layout=small
        )
        self.scale: _Confirmed = _Confirmed(scale, self._scale)
        self.scale.question = self._scale_question
        self.stop: _Confirmed = _Confirmed(stop, self._stop)
        self.stop.question = lambda: "Really stop?"
        self.buttons: list[Any] = [self.number, scale, stop]
        if hasattr(cluster, "monitor"):
            monitor = ipywidgets.Button(
                description="Monitor", tooltip="serve a page that shows all", layout=small
            )
            monitor.on_click(lambda _: self._monitor())
            self.buttons.insert(2, monitor)
        self.message: Any = ipywidgets.HTML()
        self.controls: Any = ipywidgets.HBox(self.buttons)
        self.box: Any = ipywidgets.VBox([self.card, self.controls, self.message])
        self.update()

    # -- watching

    def start(self) -> None:
        """Watch the cluster, in a thread."""
        threading.Thread(
            target=self._watch, name=f"ipython1-card-{self._title}", daemon=True
        ).start()

    def _watch(self) -> None:
        while not self.ended:
            time.sleep(INTERVAL)
            try:
                self.update()
            except Exception:  # the kernel, with all connections to front ends, is ending
                return

    def update(self) -> None:
        """Show the cluster as it is now."""
        cluster = self._cluster()
        status = known_status(self._files)
        connected = cluster is not None and cluster._is_connected
        seen = (status, connected)
        if seen != self._seen:
            self._seen = seen
            where = str(self._files.dirs.ipython_dir)
            self.card.value = cluster_html(self._title, where, status)
            self._show_count(status)
            self._enable()
        self.scale.tick()
        self.stop.tick()
        if cluster is None:
            self.close()
        elif status is None or not (connected or status.state == "stopping"):
            self._end()

    def _show_count(self, status: ClusterStatus | None) -> None:
        count = len(_alive(status)) if status is not None else 0
        # What the user has typed stays.
        if self.number.value == self._count:
            self.number.value = count
        self._count = count

    def _enable(self) -> None:
        cluster = self._cluster()
        usable = cluster is not None and cluster._is_connected and not self._acting
        for each in self.buttons:
            each.disabled = not usable

    def _end(self) -> None:
        """Leave the last state as it is, without buttons."""
        self.ended = True
        self.box.children = (self.card, self.message)
        _close(*self.buttons, self.controls)

    def close(self) -> None:
        """Close all widgets."""
        self.ended = True
        _close(*self.buttons, self.controls, self.card, self.message, self.box)

    # -- acting

    def _scale_question(self) -> str:
        wanted = int(self.number.value)
        status = known_status(self._files)
        alive = _alive(status) if status is not None else []
        if wanted >= len(alive):
            return ""
        going = alive[wanted:]
        return f"Really end {'engine' if len(going) == 1 else 'engines'} {clip(compress_ids(going), 30)}?"

    def _scale(self) -> None:
        wanted = int(self.number.value)

        def scale(cluster: ShownCluster) -> str:
            alive = _alive(cluster.status())
            if wanted > len(alive):
                added = cluster.add_engines(wanted - len(alive))
                return f"started {_engines(added)}"
            if wanted < len(alive):
                going = alive[wanted:]
                cluster.remove_engines(going)
                return f"ended {_engines(going)}"
            return f"there are {wanted} engines already"

        self._do("scaling ...", scale)

    def _stop(self) -> None:
        def stop(cluster: ShownCluster) -> str:
            cluster.stop()
            return "stopped"

        self._do("stopping ...", stop)

    def _monitor(self) -> None:
        def monitor(cluster: Any) -> str:
            url = str(cluster.monitor().url)
            self._tell(
                f'<a href="{escape(url)}" target="_blank" rel="noreferrer">Open the monitor</a>'
            )
            return ""

        self._do("starting the monitor ...", monitor)

    def _do(self, text: str, act: Callable[[Any], str]) -> None:
        """Do something in a thread, one thing at a time, and tell how it went."""
        with self._lock:
            if self._acting:
                return
            self._acting = True
        self._enable()
        self._tell(dot(WAITING, text))
        threading.Thread(target=self._act, args=(act,), daemon=True).start()

    def _act(self, act: Callable[[Any], str]) -> None:
        cluster = self._cluster()
        try:
            done = "" if cluster is None else act(cluster)
            if done:
                self._tell(dot(GOOD, done))
        except Exception as problem:
            self._tell(dot(BAD, f"{type(problem).__name__}: {problem}"))
            self.number.value = self._count
        finally:
            del cluster
            self._acting = False
            if not self.ended:
                self._enable()

    def _tell(self, html: str) -> None:
        self.message.value = html


def _close(*widgets: Any) -> None:
    for each in widgets:
        for part in (each.layout, getattr(each, "style", None), each):
            if part is not None:
                part.close()


def _alive(status: ClusterStatus) -> list[int]:
    """Return the ids of the engines that are there or will be, sorted."""
    return sorted(each.id for each in status.engines if each.state not in ("ended", "stopping"))


def _engines(ids: list[int]) -> str:
    return f"engine{' ' if len(ids) == 1 else 's '}{clip(compress_ids(ids), 60)}"
