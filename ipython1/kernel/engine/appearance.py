"""How an engine is seen from outside: in lists of processes, and by ``ipcluster`` if it was started by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipython1.daemon.titles import process_title, set_title
from ipython1.kernel.host.byhand import ENGINE, Note

if TYPE_CHECKING:
    from ipython1.kernel.engine.config import EngineConfig


class Appearance:
    """See the module's text.

    :param rank: its rank under MPI; None without.
    :param by_hand: whether it was started by hand.
    """

    def __init__(self, config: EngineConfig, rank: int | None, by_hand: bool) -> None:
        self._cluster_id = config.cluster_id
        self._more = "" if rank is None else f"rank {rank}"
        log_file = config.log_options().path
        self._note = Note(config.files, ENGINE, log_file) if by_hand else None

    def begin(self) -> None:
        """The engine starts."""
        self.registered(None)

    def registered(self, engine_id: int | None) -> None:
        """The engine has an id."""
        set_title(process_title(ENGINE, self._cluster_id, engine_id, self._more))
        if self._note is not None:
            self._note.write(engine_id)

    def ended(self) -> None:
        """The engine ends."""
        if self._note is not None:
            self._note.remove()
