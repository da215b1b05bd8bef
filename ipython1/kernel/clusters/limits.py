"""How long programs wait for a cluster."""

from __future__ import annotations

STOP_LIMIT = 60.0
"""Seconds that a cluster may take to end."""

ANSWER_LIMIT = 30.0
"""Seconds that an answer may take that needs no work."""

REMOVE_LIMIT = 120.0
"""Seconds that engines may take to end."""

ANSWER_MARGIN = 10.0
"""Seconds that an answer may come later than the time that was given for the work."""
