"""The actor of Monarch's processes, which import it."""

from __future__ import annotations

import time
from typing import Any

from monarch.actor import Actor, endpoint


class Holder(Actor):
    @endpoint
    def nothing(self) -> None:
        pass

    @endpoint
    def sleep_some(self, length: float) -> None:
        time.sleep(length)

    @endpoint
    def keep(self, value: Any) -> None:
        self.value = value

    @endpoint
    def give(self) -> Any:
        return self.value
