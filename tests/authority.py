"""A certificate authority of the tests' own, made with openssl, and a database that shows its certificates."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.pooler import pooler

REMOTE = "0.0.0.0"  # noqa: S104 - leads to this machine, and is none of the addresses that are known to be it


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates in its folder; `root` is what a client needs of it."""

    folder: Path

    @property
    def root(self) -> Path:
        """Its own certificate."""
        return self.folder / "root.crt"

    def issue(self, names: str) -> dict[str, str]:
        """Make a key and a certificate for these names (openssl's subjectAltName), as settings of PgBouncer."""
        key, request, certificate, names_file = (self.folder / f"server.{end}" for end in ("key", "csr", "crt", "ext"))
        names_file.write_text(f"subjectAltName = {names}\n")
        _openssl("req", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=x", "-keyout", key, "-out", request)
        signed_by = ("-CA", self.root, "-CAkey", self.folder / "root.key", "-CAcreateserial", "-days", "1")
        _openssl("x509", "-req", "-in", request, *signed_by, "-extfile", names_file, "-out", certificate)
        key.chmod(0o644)  # the pooler runs as another user
        return {
            "client_tls_sslmode": "allow",  # a client that asks for no encryption is let in as well
            "client_tls_key_file": str(key),
            "client_tls_cert_file": str(certificate),
        }


def _openssl(*words: str | Path) -> None:
    program = shutil.which("openssl") or pytest.skip("no openssl on this machine to make a certificate")
    subprocess.run([program, *words], check=True, capture_output=True)


@contextlib.contextmanager
def authority() -> Iterator[Authority]:
    """Make one, and forget it at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="agent-vault-test-"))
    folder.chmod(0o755)
    one = Authority(folder)
    try:
        made = ("-x509", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={folder.name}", "-days", "1")
        _openssl("req", *made, "-keyout", folder / "root.key", "-out", one.root)
        yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def encrypted(dsn: str, signer: Authority, names: str = f"IP:{REMOTE}") -> Iterator[str]:
    """Offer TLS before a database, with a certificate for these names; the string's host seems to be remote."""
    with pooler(dsn, "session", settings=signer.issue(names)) as through:
        yield through.replace("host=127.0.0.1", f"host={REMOTE}")
