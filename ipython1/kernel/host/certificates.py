"""Keys and certificates: a controller's permanent identity, and the temporary one of an engine or client.

A Tub's id is a digest of its certificate, so only the holder of the private key can answer under
that id.  The certificate is self-signed, and the protocol ignores its dates.  Keys are
elliptic-curve keys (P-256): generating one takes 0.1 ms, and an RSA key a tenth of a second.
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

# The dates cover any clock that a host may have; the end date is the one that means "no expiry"
# (RFC 5280, 4.1.2.5).
_NOT_BEFORE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def make_certificate() -> bytes:
    """Make a new private key and self-signed certificate, as PEM for foolscap's
    ``Tub(certData=...)``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # Use the same name in all certificates, so that it reveals nothing to eavesdroppers.
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
    """Return the PEM if it holds a complete key with its certificate.

    :param path: the file that it was read from, for the message.
    :raises SecurityError: if it is empty, truncated or damaged, or key and certificate do not
        match.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except Exception as exception:
        raise SecurityError(_unusable(path, "it has no complete private key")) from exception
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certified = certificate.public_key()
    except Exception as exception:
        raise SecurityError(_unusable(path, "it has no complete certificate")) from exception
    if key.public_key() != certified:
        raise SecurityError(_unusable(path, "its key and certificate do not match"))
    return pem


def load_certificate(path: str | os.PathLike[str]) -> bytes | None:
    """Read and check a key file.

    :returns: the PEM, or ``None`` if there is no such file.
    :raises SecurityError: if the file is accessible to others, or does not hold a complete key with
        its certificate.
    """
    pem = read_private_if_there(path, "key file")
    return None if pem is None else check_certificate(pem, path)


def load_or_make_certificate(path: str | os.PathLike[str]) -> bytes:
    """Read and check a key file, or create it if it does not exist.

    An unusable file is never replaced: a new identity would invalidate every FURL of the old one.

    :returns: the PEM.
    :raises SecurityError: see :func:`load_certificate`; also if the file cannot be written.
    """
    pem = load_certificate(path)
    if pem is not None:
        return pem
    made = make_certificate()
    try:
        write_private(path, made, replace=False)
    except FileExistsError:
        # Another process was first; use the identity in its file.
        return load_certificate(path) or made
    return made


def tub_id(pem: bytes) -> str:
    """Return the id of the Tub with this certificate: 32 characters, as in its FURLs."""
    digest = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA1())
    return base64.b32encode(digest).decode("ascii").lower().rstrip("=")


def _unusable(path: str | os.PathLike[str], why: str) -> str:
    return (
        f"the key file {Path(path)} is unusable: {why}; restore it from a backup, or remove it together with the "
        "FURL files next to it to get a new identity"
    )
