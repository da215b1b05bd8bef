"""Files that users name: mounted secrets are read, and what somebody else could replace is refused."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import skipUnless

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.calls.locate import locate
from ipython1.kernel.host.mountedfiles import read_named_if_there
from ipython1.kernel.host.security import read_furl, wait_for_furl
from ipython1.kernel.scripts.engineoptions import parse_engine
from ipython1.testing.folders import temporary_path

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
STRANGER = 12345
FURL = "pb://" + "a" * 32 + "@tcp:10.0.0.1:1234/" + "b" * 32
NEW_FURL = "pb://" + "c" * 32 + "@tcp:10.0.0.2:1234/" + "d" * 32


def mount_secret(directory: Path, texts: dict[str, str], version: str = "1") -> None:
    """Lay files out as Kubernetes mounts a secret, or replace those that are there in the same way."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.chmod(0o1777)
    files = directory / f"..2026_11_30_{version}"
    files.mkdir(mode=0o755)
    for name, text in texts.items():
        (files / name).write_text(text)
        (files / name).chmod(0o400)
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    new, data = directory / "..data_tmp", directory / "..data"
    new.symlink_to(files.name)
    before = data.resolve() if data.is_symlink() else None
    os.replace(new, data)
    if before is not None:
        shutil.rmtree(before)


class MountedCase(SynchronousTestCase):
    def setUp(self):
        self.top = self.make_top()
        self.volume = self.top / "volume"
        mount_secret(self.volume, {"engine.furl": FURL + "\n"})
        self.path = self.volume / "engine.furl"

    def make_top(self):
        top = Path(temporary_path(self))
        top.mkdir(mode=0o755, parents=True)
        return top

    def refusal(self, path=None):
        return str(
            self.assertRaises(SecurityError, read_named_if_there, path or self.path, "FURL file")
        )


class ReadingTests(MountedCase):
    def test_a_mounted_secret_is_read_if_it_was_named_and_not_at_a_default_place(self):
        self.assertEqual(str(read_furl(self.path, named=True)), FURL)
        self.assertEqual(str(locate(str(self.path), "multiengine").furl), FURL)
        self.assertIn("symbolic link", str(self.assertRaises(SecurityError, read_furl, self.path)))

    def test_another_secret_in_its_place_is_read_the_next_time(self):
        mount_secret(self.volume, {"engine.furl": NEW_FURL + "\n"}, "2")
        self.assertEqual(str(read_furl(self.path, named=True)), NEW_FURL)

    def test_the_environment_may_name_it(self):
        for name in ("IPYTHON1_MEC_FURL_FILE", "IPYTHON1_ENGINE_FURL_FILE"):
            self.patch(os, "environ", {**os.environ, name: str(self.path)})
        self.assertEqual(str(locate("", "multiengine").furl), FURL)
        config = parse_engine([])
        self.assertEqual((config.furl_file, config.furl_file_named), (self.path, True))
        # A directory on the command line is meant, as for the FURL in the environment.
        config = parse_engine(["--ipython-dir", str(self.top / "ipython")])
        self.assertEqual(config.furl_file_named, False)

    def test_an_engine_waits_for_a_secret_that_is_not_mounted_yet(self):
        clock = Clock()
        later = self.top / "later"
        waiting = ensureDeferred(wait_for_furl(later / "engine.furl", 10.0, clock, named=True))
        clock.pump([0.05] * 10)
        self.assertNoResult(waiting)
        mount_secret(later, {"engine.furl": FURL})
        clock.pump([0.05] * 10)
        self.assertEqual(str(self.successResultOf(waiting)), FURL)

    def test_two_dots_lead_where_the_system_says(self):
        inner = self.top / "inner"
        inner.mkdir(mode=0o755)
        elsewhere = self.top / "elsewhere"
        elsewhere.mkdir(mode=0o755)
        (elsewhere / "link").symlink_to(inner)
        path = elsewhere / "link" / ".." / "volume" / "engine.furl"
        self.assertEqual(read_named_if_there(path), path.read_bytes())

    def test_links_that_lead_nowhere_and_in_circles(self):
        (self.volume / "..data").unlink()
        self.assertIsNone(read_named_if_there(self.path))
        (self.volume / "..data").symlink_to("..data")
        self.assertIn("symbolic links", self.refusal())

    def test_what_is_no_file_of_text(self):
        os.mkfifo(self.volume / "..data" / "pipe")
        (self.volume / "pipe").symlink_to("..data/pipe")
        self.assertIn("not a regular file", self.refusal(self.volume / "pipe"))
        (self.volume / "..data" / "none").touch(0o400)
        (self.volume / "none").symlink_to("..data/none")
        self.assertIn("empty", self.refusal(self.volume / "none"))
        error = self.assertRaises(SecurityError, read_named_if_there, self.path, limit=10)
        self.assertIn("larger than 10 bytes", str(error))


class RefusalTests(MountedCase):
    def test_own_files_are_private_as_ever(self):
        own = self.top / "own.furl"
        own.write_text(FURL)
        own.chmod(0o644)
        message = self.refusal(own)
        self.assertIn("accessible to other users", message)
        (self.volume / "link").symlink_to(own)
        message = self.refusal(self.volume / "link")
        self.assertIn("accessible to other users", message)
        subprocess.run(message.rpartition(": ")[2].split(), check=True)
        self.assertEqual(read_named_if_there(self.volume / "link"), FURL.encode())

    def test_a_directory_on_the_way_in_which_others_can_write(self):
        files = (self.volume / "..data").resolve()
        for directory, mode in ((files, 0o777), (self.volume, 0o777), (self.top, 0o757)):
            before = directory.stat().st_mode & 0o7777
            directory.chmod(mode)
            message = self.refusal()
            self.assertIn(f"{directory} is writable by other users (mode {mode:04o})", message)
            self.assertNotIn("\n", message)
            directory.chmod(before)
        self.assertEqual(read_named_if_there(self.path), FURL.encode() + b"\n")

    def test_a_file_that_others_can_write(self):
        (self.volume / "..data" / "engine.furl").chmod(0o606)
        self.assertIn("can be changed by other users (mode 0606)", self.refusal())

    def test_a_link_or_directory_or_file_of_a_stranger(self):
        place = (self.volume / "..data").resolve()
        for path in (self.path, self.volume / "..data", place, place / "engine.furl", self.top):
            os.chown(path, STRANGER, -1, follow_symlinks=False)
            self.assertIn(f"belongs to another user (uid {STRANGER})", self.refusal())
            os.chown(path, 0, -1, follow_symlinks=False)
        self.assertEqual(read_named_if_there(self.path), FURL.encode() + b"\n")

    def test_an_own_file_in_a_directory_of_a_stranger(self):
        own = self.top / "own.furl"
        own.write_text(FURL)
        own.chmod(0o600)
        self.assertEqual(read_named_if_there(own), FURL.encode())
        os.chown(self.top, STRANGER, -1)
        self.assertIn(f"belongs to another user (uid {STRANGER}), who could", self.refusal(own))

    if not ROOT:
        test_a_link_or_directory_or_file_of_a_stranger.skip = "only root can give files away"
        test_an_own_file_in_a_directory_of_a_stranger.skip = "only root can give files away"


@skipUnless(
    ROOT and shutil.which("setpriv") and shutil.which("unshare"), "needs root, setpriv and unshare"
)
class ContainerTests(MountedCase):
    """What belongs to root, read as in a container."""

    def make_top(self):
        top = Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        self.addCleanup(shutil.rmtree, top)
        top.chmod(0o755)
        return top

    def read(self, *command):
        code = (
            "import sys\n"
            "from ipython1.kernel.host.mountedfiles import read_named_if_there\n"
            "print(len(read_named_if_there(sys.argv[1], 'FURL file')))\n"
        )
        done = subprocess.run(
            [*command, sys.executable, "-P", "-c", code, str(self.path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    def test_a_user_of_the_container_reads_a_secret_of_root(self):
        file = self.volume / "..data" / "engine.furl"
        user = ("setpriv", "--reuid=1000", "--regid=1000", "--groups=2000")
        tried = subprocess.run([*user, sys.executable, "-c", ""], capture_output=True, check=False)
        if tried.returncode != 0:
            raise SkipTest("other users cannot run this Python")
        file.chmod(0o444)
        self.assertEqual(self.read(*user), str(len(FURL) + 1))
        os.chown(file, 0, 2000)
        file.chmod(0o440)
        self.assertEqual(self.read(*user), str(len(FURL) + 1))
        file.chmod(0o460)
        self.assertIn("can be changed by other users", self.read(*user))

    def test_root_reads_what_others_can_read_only_where_it_is_mounted_read_only(self):
        (self.volume / "..data" / "engine.furl").chmod(0o444)
        self.assertIn("accessible to other users (mode 0444)", self.read())
        mount = f'mount --bind -o ro {self.volume} {self.volume} && exec "$@"'
        self.assertEqual(self.read("unshare", "-m", "sh", "-ec", mount, "sh"), str(len(FURL) + 1))
