"""A key of the stack's own. Flink and Kafka Connect run code that is submitted to them, and every account of the machine and every page
in a browser can reach loopback. So they accept only connections that show this key, which only its owner can read."""

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
    """key.pem, cert.pem, and both in store.p12 for Java. The certificate is self-signed."""

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
        """For a client: shows the certificate, and trusts this certificate only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certificate)
        context.load_cert_chain(self.certificate, self.key)
        return context


def keys(run_folder: Path) -> Keys:
    """The keys of a run folder, made at the first call."""
    keys = Keys(run_folder.resolve() / "tls")
    if not keys.store.exists():
        _make(keys)
    return keys


def context_of(run_folder: Path) -> ssl.SSLContext | None:
    """The context of a run folder's keys; None if there are no keys."""
    keys = Keys(run_folder.resolve() / "tls")
    return keys.context() if keys.store.exists() else None


def private(file: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, even if it existed with other permissions."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    part.replace(file)
    return file


def _make(keys: Keys) -> None:
    """RSA, because every Java can read it."""
    keys.folder.mkdir(parents=True, exist_ok=True)
    keys.folder.chmod(0o700)
    password = secrets.token_hex(24)
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    certificate = _certificate(key)
    private(keys.folder / "password", password.encode())
    plain = serialization.NoEncryption()
    private(keys.key, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    private(keys.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    closed = serialization.BestAvailableEncryption(password.encode())
    private(keys.store, pkcs12.serialize_key_and_certificates(b"millrace", key, certificate, None, closed))


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    """Self-signed, valid for loopback only."""
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
