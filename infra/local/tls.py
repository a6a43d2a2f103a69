"""A key of the stack's own. Flink and Kafka Connect run what is put to them, and loopback is open to every account of the machine and to
every page in a browser: so they take connections only from who shows this key, which only its owner can read."""

from __future__ import annotations

import os
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

DAYS = 3_650


@dataclass(frozen=True)
class Keys:
    """key.pem, cert.pem, and both in store.p12 for Java; it is its own authority."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def store(self) -> Path:
        return self.folder / "store.p12"

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text()

    def context(self) -> ssl.SSLContext:
        """Of a client: it shows the certificate, and trusts nothing else."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(self.certificate)
        made.load_cert_chain(self.certificate, self.key)
        return made


def keys(run_folder: Path) -> Keys:
    """Made at the first call."""
    found = Keys(run_folder.resolve() / "tls")
    if not found.store.exists():
        _make(found)
    return found


def context_of(run_folder: Path) -> ssl.SSLContext | None:
    """Of the keys that are there; None where none were made."""
    found = Keys(run_folder.resolve() / "tls")
    return found.context() if found.store.exists() else None


def private(file: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, whatever it was before."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    part.replace(file)
    return file


def _make(found: Keys) -> None:
    """RSA, as every Java reads it."""
    found.folder.mkdir(parents=True, exist_ok=True)
    found.folder.chmod(0o700)
    password = secrets.token_hex(24)
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    certificate = _certificate(key)
    private(found.folder / "password", password.encode())
    plain = serialization.NoEncryption()
    private(found.key, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    private(found.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    closed = serialization.BestAvailableEncryption(password.encode())
    private(found.store, pkcs12.serialize_key_and_certificates(b"millrace", key, certificate, None, closed))


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    """Signed by itself, for loopback alone."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "millrace")])
    now = datetime.now(UTC)
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(hosts, critical=False)
        .sign(key, hashes.SHA256())
    )
