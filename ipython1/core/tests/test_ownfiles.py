"""Files that this user appends to: never those of others, and never through links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1 import ownfiles
from ipython1.ownfiles import directory_problem, open_to_append, others_can_write, remove_unused
from ipython1.testing.folders import temporary_path

OTHER = 12345


class OwnFilesCase(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(temporary_path(self))
        self.directory.mkdir(mode=0o700)
        self.path = self.directory / "x.log"

    def give_away(self, path: Path) -> None:
        try:
            os.chown(path, OTHER, -1, follow_symlinks=False)
        except PermissionError:
            raise SkipTest("only root can give files away") from None

    def append(self, text: bytes = b"mine\n") -> None:
        descriptor = open_to_append(self.path)
        os.write(descriptor, text)
        os.close(descriptor)

    def assert_refused(self, *words: str) -> None:
        problem = str(self.assertRaises(PermissionError, open_to_append, self.path))
        for word in words:
            self.assertIn(word, problem)


class AppendTests(OwnFilesCase):
    def test_a_new_file_is_for_its_owner_alone_and_lines_are_added(self):
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.append()
        self.append()
        self.assertEqual(self.path.read_bytes(), b"mine\nmine\n")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_links_are_not_followed(self):
        precious = self.directory / "precious"
        precious.write_text("precious")
        for target in (precious, self.directory / "missing"):
            self.path.symlink_to(target)
            self.assert_refused("symbolic link")
            self.path.unlink()
        self.assertEqual(precious.read_text(), "precious")
        self.assertFalse((self.directory / "missing").exists())

    def test_a_link_that_comes_in_the_last_moment_is_not_followed_either(self):
        self.patch(os.path, "islink", lambda path: False)
        self.test_links_are_not_followed()

    def test_files_of_others_are_refused(self):
        self.append()
        self.give_away(self.path)
        self.assert_refused(str(OTHER), f"sudo rm {self.path}")

    def test_files_that_others_can_change_are_refused(self):
        self.append()
        self.path.chmod(0o602)
        self.assert_refused("writable by other users", f"chmod go-w {self.path}")

    def test_directories_in_which_others_can_replace_it_are_refused(self):
        self.directory.chmod(0o777)
        self.assert_refused("writable by other users", f"chmod go-w {self.directory}")
        self.directory.chmod(0o1777)
        self.append()
        self.give_away(self.directory)
        self.assert_refused("who could replace", "chown")

    def test_a_second_name_is_refused_where_others_could_have_given_it(self):
        precious = self.directory / "precious"
        precious.write_text("precious")
        os.link(precious, self.path)
        self.append()
        self.directory.chmod(0o1777)
        self.assert_refused("another name", f"rm {self.path}")

    def test_devices_are_written_to(self):
        self.path = Path("/dev/null")
        self.append()

    def test_a_named_pipe_that_nobody_reads_does_not_block(self):
        os.mkfifo(self.path)
        self.assertRaises(OSError, open_to_append, self.path)


class OthersTests(OwnFilesCase):
    def test_the_group_that_belongs_to_the_user_is_the_user(self):
        self.path.write_text("")
        self.path.chmod(0o660)
        found = self.path.stat()
        self.patch(ownfiles, "_is_own_group", lambda gid: gid == found.st_gid)
        self.assertFalse(others_can_write(found))
        self.patch(ownfiles, "_is_own_group", lambda gid: False)
        self.assertTrue(others_can_write(found))
        self.path.chmod(0o606)
        self.patch(ownfiles, "_is_own_group", lambda gid: True)
        self.assertTrue(others_can_write(self.path.stat()))

    def test_groups(self):
        import grp

        self.assertFalse(ownfiles._is_own_group(2**31 - 5))
        for group in grp.getgrall():
            if group.gr_gid != os.getgid():
                self.assertFalse(ownfiles._is_own_group(group.gr_gid), group)

    def test_a_directory_of_root_is_trusted(self):
        self.assertEqual(directory_problem("/"), "")
        self.assertEqual(directory_problem("/tmp"), "")

    def test_where_files_have_no_owners(self):
        self.directory.chmod(0o777)
        self.patch(ownfiles, "HAS_OWNERS", False)
        self.assertEqual(directory_problem(self.directory), "")
        self.append()


class UnusedTests(OwnFilesCase):
    def test_a_file_that_is_open_to_append_stays(self):
        descriptor = open_to_append(self.path)
        copy = os.dup(descriptor)
        another = open_to_append(self.path)
        for each in (descriptor, another, copy):
            self.assertFalse(remove_unused(self.path))
            os.close(each)
        self.assertTrue(remove_unused(self.path))
        self.assertFalse(self.path.exists())

    def test_links_and_files_of_others_stay(self):
        other = self.directory / "y.log"
        other.touch()
        self.path.symlink_to(other)
        self.assertRaises(OSError, remove_unused, self.path)
        self.give_away(other)
        self.assertFalse(remove_unused(other))
        self.assertTrue(other.exists())

    def test_a_file_that_is_removed_while_it_is_opened_is_made_again(self):
        opened = ownfiles._open_to_append
        times = []

        def open_and_lose(path):
            descriptor = opened(path)
            if not times:
                os.unlink(path)
            times.append(descriptor)
            return descriptor

        self.patch(ownfiles, "_open_to_append", open_and_lose)
        self.append()
        self.assertEqual((len(times), self.path.read_bytes()), (2, b"mine\n"))
