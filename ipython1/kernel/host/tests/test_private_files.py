"""Private files: how they are created, and which are refused, with the command that fixes the problem."""

import os
import shlex
import stat
import subprocess
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.host import private_files
from ipython1.kernel.host.private_files import (
    ensure_private_dir,
    read_private,
    read_private_if_there,
    write_private,
)
from ipython1.testing.folders import temporary_path


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


class PrivateTestCase(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(temporary_path(self))
        self.directory.mkdir(mode=0o700, parents=True)
        self.file = self.directory / "a key.pem"

    def assert_refused(self, call, *words):
        message = str(self.assertRaises(SecurityError, call))
        for word in words:
            self.assertIn(str(word), message)
        self.assertNotIn("\n", message)
        return message

    def run_the_remedy(self, message):
        """Run the command after the last colon of a message."""
        command = shlex.split(message.rpartition(": ")[2])
        subprocess.run(command, check=True, timeout=20)


class DirectoryTests(PrivateTestCase):
    def test_missing_directory_is_made_for_its_owner_only_whatever_the_umask(self):
        old = os.umask(0)
        try:
            made = ensure_private_dir(self.directory / "above" / "security")
        finally:
            os.umask(old)
        self.assertEqual(mode_of(made), 0o700)

    def test_existing_private_directory_is_accepted_and_left_alone(self):
        self.file.write_text("kept")
        self.assertEqual(ensure_private_dir(self.directory), self.directory)
        self.assertEqual(self.file.read_text(), "kept")

    def test_directory_open_to_group_or_others_is_refused_and_the_named_command_mends_it(self):
        for mode in (0o750, 0o770, 0o701, 0o755, 0o777):
            os.chmod(self.directory, mode)
            message = self.assert_refused(
                lambda: ensure_private_dir(self.directory),
                self.directory,
                f"{mode:04o}",
                "chmod 700",
            )
            self.run_the_remedy(message)
            ensure_private_dir(self.directory)

    def test_symbolic_link_is_refused(self):
        link = self.directory / "link to it"
        link.symlink_to(self.directory)
        message = self.assert_refused(lambda: ensure_private_dir(link), link, "symbolic link")
        self.run_the_remedy(message)
        ensure_private_dir(link)

    def test_plain_file_in_its_place_is_refused(self):
        self.file.write_text("")
        message = self.assert_refused(lambda: ensure_private_dir(self.file), "not a directory")
        self.run_the_remedy(message)
        ensure_private_dir(self.file)

    def test_directory_that_cannot_be_made_says_why(self):
        self.file.write_text("")
        self.assert_refused(
            lambda: ensure_private_dir(self.file / "x" / "security"), "cannot create", self.file
        )

    @skipUnless(hasattr(os, "geteuid") and os.geteuid() == 0, "only root can give a directory away")
    def test_directory_of_another_user_is_refused(self):
        os.chown(self.directory, 65534, -1)
        message = self.assert_refused(
            lambda: ensure_private_dir(self.directory), "another user", "65534", "chown"
        )
        self.run_the_remedy(message.replace("sudo ", ""))
        ensure_private_dir(self.directory)


class WriteTests(PrivateTestCase):
    def test_file_is_readable_by_its_owner_only_whatever_the_umask(self):
        for umask in (0, 0o777):
            old = os.umask(umask)
            try:
                write_private(self.file, b"secret")
            finally:
                os.umask(old)
            self.assertEqual(mode_of(self.file), 0o600)
        self.assertEqual(read_private(self.file), b"secret")
        self.assertEqual([p.name for p in self.directory.iterdir()], [self.file.name])

    def test_existing_open_file_is_replaced_by_a_closed_one(self):
        self.file.write_text("old")
        self.file.chmod(0o666)
        write_private(self.file, b"new")
        self.assertEqual((mode_of(self.file), self.file.read_bytes()), (0o600, b"new"))

    def test_link_in_its_place_is_replaced_and_not_followed(self):
        victim = self.directory / "victim"
        victim.write_text("untouched")
        self.file.symlink_to(victim)
        write_private(self.file, b"new")
        self.assertEqual(victim.read_text(), "untouched")
        self.assertFalse(self.file.is_symlink())

    def test_without_replace_the_first_writer_wins(self):
        write_private(self.file, b"first", replace=False)
        with self.assertRaises(FileExistsError):
            write_private(self.file, b"second", replace=False)
        self.assertEqual(self.file.read_bytes(), b"first")
        self.assertEqual([p.name for p in self.directory.iterdir()], [self.file.name])

    def test_failure_keeps_the_old_content_leaves_nothing_and_says_why(self):
        write_private(self.file, b"old")

        def full(descriptor):
            raise OSError(28, "No space left on device")

        self.patch(private_files.os, "fsync", full)
        self.assert_refused(
            lambda: write_private(self.file, b"new"), self.file, "No space left on device"
        )
        self.assertEqual(self.file.read_bytes(), b"old")
        self.assertEqual([p.name for p in self.directory.iterdir()], [self.file.name])

    def test_missing_directory_is_one_clear_error(self):
        self.assert_refused(
            lambda: write_private(self.directory / "gone" / "x", b""), "gone", "No such file"
        )


class ReadTests(PrivateTestCase):
    def setUp(self):
        super().setUp()
        write_private(self.file, b"secret")

    def test_missing_file(self):
        gone = self.directory / "gone"
        self.assertIsNone(read_private_if_there(gone))
        self.assertIsNone(read_private_if_there(self.file / "below a file"))
        self.assert_refused(lambda: read_private(gone, "key file"), "key file", gone, "not exist")

    def test_file_open_to_group_or_others_is_refused_and_the_named_command_mends_it(self):
        for mode in (0o640, 0o620, 0o604, 0o644, 0o666):
            self.file.chmod(mode)
            message = self.assert_refused(
                lambda: read_private(self.file), self.file, f"{mode:04o}", "chmod 600"
            )
            self.assertNotIn("secret", message)
            self.run_the_remedy(message)
            self.assertEqual(read_private(self.file), b"secret")

    def test_directory_that_others_can_write_is_refused_and_the_named_command_mends_it(self):
        for mode in (0o770, 0o702, 0o777):
            self.directory.chmod(mode)
            message = self.assert_refused(lambda: read_private(self.file), "chmod go-w")
            self.run_the_remedy(message)
            self.assertEqual(read_private(self.file), b"secret")
        self.directory.chmod(0o1777)
        self.assertEqual(read_private(self.file), b"secret")

    def test_symbolic_link_is_refused_dangling_ones_too(self):
        for target in (self.file, self.directory / "gone"):
            link = self.directory / f"link to {target.name}"
            link.symlink_to(target)
            self.assert_refused(lambda link=link: read_private(link), link, "symbolic link")

    def test_empty_file_is_refused_not_taken_as_missing(self):
        self.file.write_bytes(b"")
        message = self.assert_refused(lambda: read_private_if_there(self.file), self.file, "empty")
        self.run_the_remedy(message)
        self.assertIsNone(read_private_if_there(self.file))

    def test_what_is_no_plain_file_is_refused_at_once(self):
        self.assert_refused(lambda: read_private(self.directory), self.directory)
        pipe = self.directory / "pipe"
        os.mkfifo(pipe, 0o600)
        self.assert_refused(lambda: read_private(pipe), pipe, "not a regular file")

    def test_huge_file_is_refused(self):
        write_private(self.file, bytes(private_files.MAX_PRIVATE_FILE + 1))
        self.assert_refused(lambda: read_private(self.file), "larger than")

    @skipUnless(hasattr(os, "geteuid") and os.geteuid() == 0, "only root can give a file away")
    def test_file_of_another_user_is_refused(self):
        os.chown(self.file, 65534, -1)
        self.assert_refused(lambda: read_private(self.file), self.file, "another user", "65534")


class FallbackTests(PrivateTestCase):
    """A platform without owners and modes: everything else must still work."""

    def setUp(self):
        super().setUp()
        self.patch(private_files, "HAS_OWNERS", False)

    def test_files_are_written_read_and_kept(self):
        security = ensure_private_dir(self.directory / "security")
        security.chmod(0o777)
        ensure_private_dir(security)
        path = write_private(security / "x", b"first")
        write_private(path, b"second")
        path.chmod(0o666)
        self.assertEqual(read_private(path), b"second")
        write_private(security / "y", b"y", replace=False)
        self.assertEqual(sorted(p.name for p in security.iterdir()), ["x", "y"])

    def test_links_are_still_refused(self):
        link = self.directory / "link"
        link.symlink_to(self.directory)
        self.assert_refused(lambda: ensure_private_dir(link), "symbolic link")
        self.assert_refused(lambda: read_private(link), "symbolic link")
