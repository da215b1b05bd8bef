"""Parties as the journal keeps them."""

from __future__ import annotations

from typing import Final

from ipython1.kernel.controller.journal.rows import ClientRow, EngineRow
from ipython1.kernel.controller.parties import Identity

STARTED_AGAIN: Final = "the controller was started again"


def engine_row(engine_id: int, party: Identity, now: float) -> EngineRow:
    """What is kept of an engine that is registered."""
    return EngineRow(
        uuid=bytes.fromhex(party.uuid),
        engine_id=engine_id,
        pid=party.pid,
        host=party.host,
        started=party.started,
        secret_hash=bytes.fromhex(party.proof),
        registered=now,
    )


def client_row(party: Identity, now: float) -> ClientRow:
    """What is kept of a client that has registered."""
    return ClientRow(
        uuid=bytes.fromhex(party.uuid),
        label=party.label,
        pid=party.pid,
        host=party.host,
        started=party.started,
        secret_hash=bytes.fromhex(party.proof),
        first_seen=now,
        last_seen=now,
    )


def engine_party(row: EngineRow) -> Identity:
    """An engine that was registered before the controller was started again."""
    return Identity(row.uuid.hex(), row.secret_hash.hex(), row.pid, row.host, row.started)


def client_party(row: ClientRow) -> Identity:
    """A client that was there before the controller was started again."""
    return Identity(
        row.uuid.hex(), row.secret_hash.hex(), row.pid, row.host, row.started, row.label
    )
