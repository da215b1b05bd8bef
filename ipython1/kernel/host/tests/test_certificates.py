"""Certificates: that foolscap can use them, and errors for damaged key files."""

import os
import stat
from pathlib import Path

from foolscap.api import Tub
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.host import certificates
from ipython1.kernel.host.certificates import (
    check_certificate,
    load_certificate,
    load_or_make_certificate,
    make_certificate,
    tub_id,
)
from ipython1.testing.folders import temporary_path


class MakeTests(SynchronousTestCase):
    def test_foolscap_takes_it_and_has_the_same_id(self):
        pem = make_certificate()
        self.assertEqual(Tub(certData=pem).tubID, tub_id(pem))
        self.assertEqual(len(tub_id(pem)), 32)

    def test_each_is_a_new_identity(self):
        self.assertNotEqual(tub_id(make_certificate()), tub_id(make_certificate()))

    def test_an_rsa_key_that_foolscap_made_is_accepted(self):
        pem = Tub().getCertData()
        self.assertEqual(check_certificate(pem, "x.pem"), pem)


class FileTests(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(temporary_path(self))
        self.directory.mkdir(mode=0o700, parents=True)
        self.path = self.directory / "ipcontroller.pem"

    def test_first_use_makes_a_private_file_and_later_uses_keep_the_identity(self):
        self.assertIsNone(load_certificate(self.path))
        pem = load_or_make_certificate(self.path)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(load_or_make_certificate(self.path), pem)
        self.assertEqual(load_certificate(self.path), pem)

    def test_damaged_files_are_refused_by_name_and_never_replaced(self):
        pem = make_certificate()
        key_end = pem.index(b"-----BEGIN CERTIFICATE")
        other = make_certificate()
        for data, word in [
            (b"", "empty"),
            (b"\n", "private key"),
            (b"nonsense", "private key"),
            (pem[: key_end // 2], "private key"),
            (pem[key_end:], "private key"),
            (pem[:key_end], "certificate"),
            (pem[:-60], "certificate"),
            (pem[:key_end] + other[other.index(b"-----BEGIN CERTIFICATE") :], "do not match"),
            (pem[:60] + b"!" + pem[61:], "private key"),
        ]:
            self.path.write_bytes(data)
            self.path.chmod(0o600)
            for load in (load_certificate, load_or_make_certificate):
                message = str(self.assertRaises(SecurityError, load, self.path))
                self.assertIn(str(self.path), message)
                self.assertIn(word, message)
                self.assertIn("remove it", message)
            self.assertEqual(self.path.read_bytes(), data)

    def test_open_key_file_is_refused(self):
        load_or_make_certificate(self.path)
        self.path.chmod(0o644)
        message = str(self.assertRaises(SecurityError, load_or_make_certificate, self.path))
        self.assertIn(f"chmod 600 {self.path}", message)

    def test_of_two_that_make_it_at_once_both_use_the_first_ones(self):
        first = make_certificate()
        real = certificates.write_private

        def late(path, data, replace):
            real(path, first)
            return real(path, data, replace=replace)

        self.patch(certificates, "write_private", late)
        self.assertEqual(load_or_make_certificate(self.path), first)
