"""What code displays while it runs: the last state, in bounds."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.livedisplays import MOST_BYTES, MOST_PENDING, LiveDisplays


class LiveDisplaysTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.displays = LiveDisplays()

    def taken(self) -> list[dict[str, Any]]:
        return [step for batch in self.displays.take() for step in json.loads(batch)]

    def comm(self, do: str, state: dict[str, Any], *buffers: bytes, name: str = "c") -> None:
        data = {"method": "update", "state": state}
        self.displays.comm(do, name, "jupyter.widget", data, None, buffers)

    def test_updates_between_two_looks_are_one(self) -> None:
        self.displays.show({"text/plain": "0"}, {}, "bar")
        for number in range(10_000):
            self.displays.update({"text/plain": str(number)}, {}, "bar")
        (step,) = self.taken()
        self.assertEqual((step["do"], step["data"]), ("show", {"text/plain": "9999"}))
        self.displays.update({"text/plain": "last"}, {}, "bar")
        (step,) = self.taken()
        self.assertEqual((step["do"], step["data"]), ("update", {"text/plain": "last"}))
        self.assertEqual(self.taken(), [])

    def test_the_state_of_widgets_between_two_looks_is_one(self) -> None:
        self.comm("open", {"value": 0, "max": 9})
        for number in range(1000):
            self.comm("message", {"value": number})
        self.comm("message", {"max": 1000})
        opened, state = self.taken()
        self.assertEqual(opened["do"], "open")
        self.assertEqual(state["data"]["state"], {"value": 999, "max": 1000})

    def test_messages_with_data_keep_their_order(self) -> None:
        self.comm("message", {"value": 1})
        self.comm("message", {"value": 2}, b"picture")
        self.comm("message", {"value": 3})
        self.assertEqual([each["data"]["state"]["value"] for each in self.taken()], [1, 2, 3])

    def test_what_was_cleared_is_not_sent(self) -> None:
        self.displays.show({"text/plain": "a"}, {}, "x")
        self.comm("open", {})
        self.displays.clear(False)
        self.displays.show({"text/plain": "b"}, {}, None)
        self.assertEqual([each["do"] for each in self.taken()], ["open", "clear", "show"])

    def test_bounds(self) -> None:
        for _ in range(2 * MOST_PENDING):
            self.displays.show({"text/plain": "x"}, {}, None)
        self.assertEqual(len(self.taken()), MOST_PENDING)
        self.displays.show({"text/plain": "big", "text/html": "x" * MOST_BYTES}, {}, None)
        (step,) = self.taken()
        self.assertEqual(step["data"], {"text/plain": "big"})
        for _ in range(4):
            self.displays.show({"text/plain": "x" * (MOST_BYTES // 2)}, {}, None)
        self.assertTrue(all(len(batch) < 2 * MOST_BYTES for batch in self.displays.take()))

    def test_pictures_are_in_base64_and_other_things_as_text(self) -> None:
        self.displays.show({"image/png": b"\x00\xff", "x": {1}}, {}, None)
        (step,) = self.taken()
        self.assertEqual(step["data"], {"image/png": "AP8=", "x": "{1}"})
