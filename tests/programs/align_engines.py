"""Give the next command the same number on all engines of the default cluster, so that transcripts look the same."""

from __future__ import annotations

from ipython1.kernel import client

mec = client.MultiEngineClient()
numbers = {result["id"]: result["number"] for result in mec.execute("pass")}
for engine_id, number in numbers.items():
    for _ in range(max(numbers.values()) - number):
        mec.execute("pass", targets=engine_id)
mec.reset()
