"""What ``queue_status`` tells of commands of every kind."""

from __future__ import annotations

from twisted.trial import unittest

from ipython1.testing import InMemoryCluster


class QueueStatusTests(unittest.SynchronousTestCase):
    def test_every_kind_of_command_is_shown(self) -> None:
        """Calls whose arguments the controller cannot read must not keep it from telling about the queue."""
        cluster = InMemoryCluster(1)
        mec = cluster.multiengine()
        cluster.engines[0].worker.held = True
        client = mec.asynchronous
        client.block = False
        client.execute("a = 1")
        client.push({"b": 1, "c": 2})
        client.pull("a")
        client.map(abs, [1, 2])
        client.set_properties({"fast": True})
        client.push({"big": bytes(10**6)})
        client.reset()
        cluster.pump.run()
        self.assertEqual(
            list(mec.queue_status()),
            [
                (
                    0,
                    {
                        "pending": "execute('a = 1')",
                        "queue": [
                            "push(b, c)",
                            "pull(a)",
                            "map(abs)",
                            "set_properties(...)",
                            "push(...)",
                            "reset()",
                        ],
                    },
                )
            ],
        )
