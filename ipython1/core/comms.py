"""Channels from widgets on an engine to a front end, as Jupyter's ``comm`` package defines them.

What they send is collected for whoever watches the command.  Nothing comes back: what a user does with a widget does
not reach the engine.
"""

from __future__ import annotations

from typing import Any

from ipython1.core.livedisplays import LiveDisplays

_DOES = {"comm_open": "open", "comm_msg": "message", "comm_close": "close"}


def offer_comms(displays: LiveDisplays) -> None:
    """Have widgets in this process send what they show to ``displays``; nothing if there is no ``comm`` package."""
    try:
        import comm
    except ImportError:
        return

    class EngineComm(comm.base_comm.BaseComm):  # type: ignore[misc, unused-ignore]
        """A channel whose messages are collected."""

        def publish_msg(
            self,
            msg_type: str,
            data: Any = None,
            metadata: Any = None,
            buffers: Any = None,
            **keys: Any,
        ) -> None:
            if displays.wanted and msg_type in _DOES:
                displays.comm(
                    _DOES[msg_type], self.comm_id, self.target_name, data, metadata, buffers or ()
                )

    comm.create_comm = EngineComm
