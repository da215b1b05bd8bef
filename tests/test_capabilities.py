"""The table of what each kind of cluster can do is true."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers import BATCH, launcher_class
from ipython1.kernel.launchers.clusterconfig import BatchOptions
from ipython1.kernel.launchers.interfaces import Unit
from ipython1.kernel.scripts.applicable import KINDS_OF

PAGE = Path(__file__).parents[1] / "docs" / "source" / "clusters" / "starting.txt"

KINDS = {
    "local": "local",
    "MPI": "mpiexec",
    "ssh": "ssh",
    "Slurm": "slurm",
    "SGE": "sge",
    "PBS": "pbs",
    "Torque": "torque",
    "LSF": "lsf",
    "HTCondor": "htcondor",
    "Flux": "flux",
    "Kubernetes": "kubernetes",
}
"""The kinds as the table names them."""


def table() -> dict[str, dict[str, bool]]:
    """The table: by capability, which kinds have it."""
    text = PAGE.read_text()
    head = re.search(r"^=+( +=+)+\n(can it \.\.\. +local .*)\n=+( +=+)+\n", text, re.MULTILINE)
    assert head is not None
    starts = [match.start() for match in re.finditer(r"=+", head.group().splitlines()[0])]
    body = text[head.end() :].partition("\n===")[0]
    rows: dict[str, dict[str, bool]] = {}
    name = ""
    for line in body.splitlines():
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if not any(cells[1:]):
            rows[f"{name} {cells[0]}"] = rows.pop(name)
            continue
        name = cells[0]
        kinds = head.group(2).split()[3:]
        rows[name] = {
            KINDS[kind]: cell == "yes" for kind, cell in zip(kinds, cells[1:], strict=True)
        }
    return rows


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rows = table()
        self.classes: dict[str, Any] = {kind: launcher_class(kind) for kind in KINDS.values()}

    def column(self, capability: str) -> dict[str, bool]:
        return self.rows.pop(capability)

    def refuses(self, kind: str, what: str, *arguments: Any) -> bool:
        """Whether a launcher of this kind refuses something, whatever it has started."""
        launcher = object.__new__(self.classes[kind])
        method = getattr(launcher, what)
        try:
            result = method(*arguments)
            if inspect.iscoroutine(result):
                result.send(None)
        except ClusterError:
            return True
        except Exception:
            return False  # it has not been started, and goes as far as to notice that
        return False

    def of_options(self, option: str) -> dict[str, bool]:
        return {kind: kind in KINDS_OF[option] for kind in KINDS.values()}

    def test_every_row(self) -> None:
        unit = Unit("engine-0", 1, (0,))
        self.assertEqual(set(self.column("remove one engine").items()), set(self.apart()))
        self.assertEqual(self.column("adapt to the tasks"), self.of_options("adapt"))
        restart = self.column("restart engines")
        self.assertEqual(restart, self.of_options("restart_engines"))
        self.assertEqual(
            restart, {kind: not self.refuses(kind, "restart", unit) for kind in self.classes}
        )
        self.assertEqual(
            self.column("replace those that the system has ended"), self.of_options("resubmit")
        )
        self.assertEqual(self.column("go through ssh alone"), self.of_options("tunnel"))
        several = self.of_options("engines_per_job") | {"mpiexec": True}
        self.assertEqual(self.column("several engines in one job"), several)
        self.check_batch()
        self.assertEqual(self.rows, {}, "every row is checked")

    def apart(self) -> Iterator[tuple[str, bool]]:
        for kind, launcher in self.classes.items():
            yield kind, not getattr(launcher, "together", False)

    def check_batch(self) -> None:
        """What the batch systems differ in, by what they are told and asked."""
        notices = self.column("let engines leave before a time limit")
        signals = self.column("signal one engine")
        reasons = self.column("tell why engines wait")
        options = BatchOptions(time="60", notice=20.0)
        silent = replace(options, notice=0.0)
        for kind in BATCH:
            system = self.classes[kind].system
            told = system.submission("job", 1, "out", options, "script", "path")
            plain = system.submission("job", 1, "out", silent, "script", "path")
            self.assertEqual(notices[kind], told != plain, kind)
            self.assertEqual(signals[kind], system.signal("1", 1, 10) is not None, kind)
            self.assertTrue(reasons[kind], kind)
        self.assertTrue(self.refuses("kubernetes", "signal", Unit("a", 1, (0,)), 10))
        self.assertEqual(
            [kind for kind in ("local", "mpiexec", "ssh", "kubernetes") if signals[kind]],
            ["local", "ssh"],
        )
