"""What is known of a controller, put together from its news."""

from __future__ import annotations

from typing import Final

from ipython1.kernel.wire.monitoring import EngineInfo, News, WorkInfo

FAILURES_KEPT: Final = 200
WORK_KEPT: Final = 200


class Known:
    """What is known of a controller's engines and work; whoever shows more keeps that in a subclass.

    :ivar mark: what to give at the next look; 0 for everything.
    :ivar latest: the news that came last; None before the first.
    :ivar engines: by id.
    :ivar work: by key.
    """

    def __init__(self) -> None:
        self.mark: int = 0
        self.latest: News | None = None
        self.engines: dict[int, EngineInfo] = {}
        self.work: dict[int, WorkInfo] = {}

    def take(self, news: News) -> None:
        """Take over what is new."""
        if news.whole:
            self.engines.clear()
            self.work.clear()
        self.mark, self.latest = news.mark, news
        self.engines.update((each.id, each) for each in news.engines)
        for engine_id in news.gone:
            self.engines.pop(engine_id, None)
        self.work.update((each.key, each) for each in news.work)
        while len(self.work) > WORK_KEPT:
            del self.work[min(self.work)]
