"""The key and certificate that give a controller its lasting identity, and an engine or client a
passing one.

A Tub's id is a digest of its certificate, so nobody but the holder of the private key can answer
under that id.  No authority signs the certificate and its dates mean nothing to the protocol.  Keys
are elliptic (P-256): one takes 0.1 ms to make, where RSA takes a tenth of a second.
"""

from __future__ import annotations

import base64
import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.host.private_files import read_private_if_there, write_private

# The dates span all clocks that a host may have, and the end is the one that stands for "none" (RFC
# 5280, 4.1.2.5).
_NOT_BEFORE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def make_certificate() -> bytes:
    """A new private key and its self-signed certificate, as PEM, fit for foolscap's
    ``Tub(certData=...)``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # A name that is the same for all tells a listener on the network nothing.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ipython1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def check_certificate(pem: bytes, path: str | os.PathLike[str]) -> bytes:
    """Give the PEM back when it is a whole key with its certificate.

    :param path: where it was read from, for the message.
    :raises SecurityError: when it is empty, truncated, damaged, or the key is not the
        certificate's.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except Exception as exception:
        raise SecurityError(_unusable(path, "no whole private key is in it")) from exception
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certified = certificate.public_key()
    except Exception as exception:
        raise SecurityError(_unusable(path, "no whole certificate is in it")) from exception
    if key.public_key() != certified:
        raise SecurityError(_unusable(path, "its key and its certificate do not belong together"))
    return pem


def load_certificate(path: str | os.PathLike[str]) -> bytes | None:
    """The checked PEM of a key file, or ``None`` when there is no such file.

    :raises SecurityError: when the file is open to others, or is not a whole key with its
        certificate.
    """
    pem = read_private_if_there(path, "key file")
    return None if pem is None else check_certificate(pem, path)


def load_or_make_certificate(path: str | os.PathLike[str]) -> bytes:
    """The checked PEM of a key file, made first when there is no such file.

    A file that is there and unusable is never replaced: a new identity would make every FURL of the
    old one worthless.

    :raises SecurityError: as :func:`load_certificate`, or when the file cannot be written.
    """
    pem = load_certificate(path)
    if pem is not None:
        return pem
    made = make_certificate()
    try:
        write_private(path, made, replace=False)
    except FileExistsError:
        # Another process was first; there is one identity, and it is in the file.
        return load_certificate(path) or made
    return made


def tub_id(pem: bytes) -> str:
    """The id of the Tub that has this certificate: 32 characters, as in its FURLs."""
    digest = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA1())
    return base64.b32encode(digest).decode("ascii").lower().rstrip("=")


def _unusable(path: str | os.PathLike[str], why: str) -> str:
    return (
        f"the key file {Path(path)} cannot be used: {why}; restore it from a copy, or remove it together with the "
        "FURL files beside it to get a new identity"
    )
