"""How many files a process may open, and who gets them."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1.kernel.host.openfiles import CLIENT_PLACES, OTHER_FILES, Places

RAISE = """
import resource
from ipython1.kernel.host.openfiles import raise_limit
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 100), hard))
raise_limit()
now = resource.getrlimit(resource.RLIMIT_NOFILE)
assert now[1] == hard and now[0] > 100, now
assert now[0] == hard or now[0] == 2**20, now
"""


class LimitTests(SynchronousTestCase):
    def test_it_is_raised_as_far_as_the_system_allows(self) -> None:
        try:
            import resource  # noqa: F401
        except ImportError:
            raise SkipTest("this system has no such limit") from None
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        subprocess.run([sys.executable, "-c", RAISE], env=environ, check=True)


class PlacesTests(SynchronousTestCase):
    def test_clients_keep_their_places(self) -> None:
        places = Places(1024)
        most = 1024 - CLIENT_PLACES - OTHER_FILES
        self.assertEqual(places.refusal(most - 1, 0), "")
        self.assertEqual(places.refusal(most - 1, CLIENT_PLACES), "")
        for clients in (0, 1, CLIENT_PLACES):
            self.assertIn("1,024 files", places.refusal(most, clients))

    def test_more_clients_leave_less_to_engines(self) -> None:
        places = Places(1024)
        self.assertEqual(places.refusal(600, 300), "")
        self.assertIn("ulimit -Hn", places.refusal(600, 400))
