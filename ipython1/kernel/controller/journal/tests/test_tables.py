"""How the tables of a new journal are made."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.journal.tables import TABLES, VERSION, create, version_of


class CreateTest(SynchronousTestCase):
    def test_they_are_there_after_one_commit(self):
        path = Path(self.mktemp())
        db = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(db.close)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        create(db)
        self.assertFalse(db.in_transaction)
        self.assertEqual(version_of(db), VERSION)
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
        # A page is written once for each commit that changes it, with a header of 24 bytes.
        written = (path.with_name(f"{path.name}-wal").stat().st_size - 32) // (size + 24)
        self.assertLessEqual(written, pages)
        found = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        self.assertLessEqual({table.name for table in TABLES}, found)
