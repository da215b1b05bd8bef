"""The reactor's side of an engine's debugger: who sits at its desk, what they type, what they are shown.

Everything is asked for: a client asks with a dict, and gets a dict, at once or when there is a next prompt.  A question
that is asked again, as after a restart of the controller, has the same effect once.

=============  =======================  ==========================================================================
``do``         with                     answer
=============  =======================  ==========================================================================
``look``                                ``where`` (empty: nothing is debugged), ``by``, ``error``
``sit``        ``client``, ``label``    the prompt; ``refused``, if somebody else sits here
``line``       ``client``, ``line``,    the next prompt
               ``count``
``stay``       ``client``               (nothing); says that the client is still there
``leave``      ``client``               (nothing)
=============  =======================  ==========================================================================

A prompt is ``text``, ``count`` (which the line that answers it must have) and ``over`` (there is nothing to answer).
Whoever has not been heard of for ``PATIENCE`` seconds does not sit here any more: a breakpoint waits for somebody else,
and looking at an exception ends.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from twisted.internet.defer import Deferred

from ipython1.core.debugger import Desk

PATIENCE: Final = 20.0
"""Seconds for which somebody may be silent."""

Answer: TypeAlias = "dict[str, Any] | Deferred[dict[str, Any]]"


class DebugEnd:
    """Answers the questions of those who debug; lives in the reactor's thread.

    :param call_in_reactor: calls something in the reactor's thread, from any.
    :param clock: tells the time, and calls things later.
    :param last_error: returns what there is to look at afterwards; empty if there is nothing.
    """

    def __init__(self, desk: Desk, call_in_reactor: Any, clock: Any, last_error: Any) -> None:
        self._desk = desk
        self._clock = clock
        self._last_error = last_error
        self._client = ""
        self._label = ""
        self._heard = 0.0
        self._look: Any = None
        self._waiting: list[Deferred[dict[str, Any]]] = []
        desk.changed = lambda: call_in_reactor(self._changed)

    def ask(self, request: dict[str, Any]) -> Answer:
        """Answer a question; what it cannot understand gets an empty answer."""
        client = str(request.get("client", ""))
        if client and client == self._client:
            self._heard = self._clock.seconds()
        do = request.get("do")
        if do == "look":
            return self._state()
        if do == "sit":
            return self._sit(client, str(request.get("label", "")))
        if client and client == self._client:
            if do == "line":
                return self._line(str(request.get("line", "")), request.get("count"))
            if do == "leave":
                self._stand_up()
        elif do == "line":
            return self._line_of_another(client, request)
        return {}

    def _line_of_another(self, client: str, request: dict[str, Any]) -> Answer:
        """Answer a line of somebody who does not sit here, or not any more."""
        if self._client:
            return {"refused": "somebody else debugs this engine now", "over": True, "text": ""}
        desk, count = self._desk, request.get("count")
        if desk.is_open:
            self._sit(client, str(request.get("label", "")))
            return self._line(str(request.get("line", "")), count)
        # The line is asked again after an interrupt, which has ended the command.
        text = desk.shown if isinstance(count, int) and desk.stops == count + 1 else ""
        return {"text": text, "count": desk.stops, "over": True}

    def _state(self) -> dict[str, Any]:
        desk = self._desk
        where = desk.where if desk.is_open else ""
        return {"where": where, "by": self._label, "error": self._last_error()}

    def _sit(self, client: str, label: str) -> Answer:
        if self._client not in ("", client):
            return {"refused": f"{self._label or 'somebody else'} debugs it"}
        if not self._desk.is_open:
            return {"over": True, "text": "", "count": self._desk.stops}
        self._client, self._label = client, label
        self._desk.attended = True
        self._watch()
        return self._next_prompt()

    def _watch(self) -> None:
        self._heard = self._clock.seconds()
        if self._look is None:
            self._look = self._clock.callLater(PATIENCE, self._look_for_them)

    def _line(self, line: str, count: object) -> Answer:
        desk = self._desk
        if desk.waits and count == desk.stops:
            desk.put(line.rstrip("\n") + "\n")
        return self._next_prompt()

    def _next_prompt(self) -> Answer:
        if self._desk.waits or not self._desk.is_open:
            return self._prompt()
        answer: Deferred[dict[str, Any]] = Deferred(self._waiting.remove)
        self._waiting.append(answer)
        return answer

    def _prompt(self) -> dict[str, Any]:
        desk = self._desk
        return {"text": desk.shown, "count": desk.stops, "over": not desk.is_open}

    def _changed(self) -> None:
        if not (self._desk.waits or not self._desk.is_open):
            return  # somebody was faster
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.callback(self._prompt())
        if not self._desk.is_open:
            self._stand_up()
        elif self._desk.attended and not self._client:
            self._watch()  # somebody is about to come

    def _look_for_them(self) -> None:
        self._look = None
        left = self._heard + PATIENCE - self._clock.seconds()
        if left > 0:
            self._look = self._clock.callLater(left, self._look_for_them)
        else:
            self._stand_up()

    def _stand_up(self) -> None:
        """Nobody sits at the desk any more."""
        self._client = self._label = ""
        desk = self._desk
        desk.attended = False
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if desk.waits and desk.post_mortem:
            desk.put("quit\n")
