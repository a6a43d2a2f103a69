"""A key of the stack's own. Flink and Kafka Connect run what is put to them, and loopback is open to every account of the machine and to
every page in a browser: so they take connections only from who shows this key, which only its owner can read."""

from __future__ import annotations

import os
import secrets
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import Stop

DAYS = 3_650
LIMIT_S = 30.0


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
    """Made at the first call. Raises Stop where OpenSSL is not on the machine."""
    found = Keys(run_folder.resolve() / "tls")
    if not found.store.exists():
        _make(found)
    return found


def context_of(run_folder: Path) -> ssl.SSLContext | None:
    """Of the keys that are there; None where none were made."""
    found = Keys(run_folder.resolve() / "tls")
    return found.context() if found.store.exists() else None


def private(file: Path, text: str) -> Path:
    """Write a file that only its owner can read, whatever it was before."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    part.replace(file)
    return file


def _make(found: Keys) -> None:
    tool = shutil.which("openssl")
    if tool is None:
        raise Stop(
            "Flink and Kafka Connect are reached with a key, and `openssl`, which makes it, is not on this machine: install it"
        )
    found.folder.mkdir(parents=True, exist_ok=True)
    found.folder.chmod(0o700)
    private(found.folder / "password", secrets.token_hex(24))
    for file in (found.key, found.certificate):
        private(file, "")
    _call(
        tool, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(DAYS), "-subj",
        "/CN=millrace", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(found.key), "-out", str(found.certificate),
    )  # fmt: skip
    part = private(found.folder / "store.part", "")
    _call(
        tool, "pkcs12", "-export", "-name", "millrace", "-inkey", str(found.key), "-in", str(found.certificate), "-out", str(part),
        "-passout", f"file:{found.folder / 'password'}",
    )  # fmt: skip
    part.replace(found.store)


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise Stop(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-500:]}")
