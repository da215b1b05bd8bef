"""What tasks write while they run, and what is in their way, as their clients are told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.tests.taskdesk import Desk, WireClient, WireEngine
from ipython1.kernel.wire import messages, taskwire


class TaskOutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.desk = Desk()
        self.client, self.other = WireClient(self.desk), WireClient(self.desk)

    def output(self, engine: WireEngine, key: tuple[int, int], text: bytes) -> None:
        meta = taskwire.pack_attempt(key[1]) + b"stdout"
        engine.send(taskwire.TASK_OUTPUT, key[0], meta, text)
        self.desk.pump.run()

    def told(self, client: WireClient) -> list[tuple[bytes, bytes]]:
        found = [each[1:] for each in client.frames if each[0] == taskwire.TASK_OUTPUT]
        client.frames.clear()
        return found

    def test_the_client_of_the_task_is_told(self) -> None:
        engine = WireEngine(self.desk)
        self.client.submit([b"task"])
        self.desk.commit()
        (key,) = engine.runs
        self.output(engine, key, b"\r50%")
        self.assertEqual(
            self.told(self.client), [(messages.pack_ids((engine.id,)) + b"stdout", b"\r50%")]
        )
        self.assertEqual(self.told(self.other), [])

    def test_of_a_run_that_is_not_the_present_one_nobody_is(self) -> None:
        engine = WireEngine(self.desk)
        (task_id,) = self.client.submit([b"task"])
        self.desk.commit()
        (key,) = engine.runs
        self.output(engine, (task_id, key[1] + 1), b"an earlier attempt")
        self.output(engine, (task_id + 1, key[1]), b"an unknown task")
        engine.end()
        self.desk.commit()
        self.output(engine, key, b"too late")
        self.assertEqual(self.told(self.client), [])

    def test_obstacles(self) -> None:
        self.assertEqual(
            self.client.ask("obstacles"), {"nobody": "no engine is registered", "stuck": []}
        )
        engine = WireEngine(self.desk)
        self.client.submit([b"task"])
        self.desk.commit()
        self.assertEqual(self.client.ask("obstacles"), {"nobody": "", "stuck": []})
        name = f"engine {engine.id}"
        engine.cut()
        self.desk.pump.run()
        nobody = f"no engine can be reached ({name} may come back)"
        self.assertEqual(self.other.ask("obstacles")["nobody"], nobody)
