"""Certificates for tests: an authority of their own, and keys as Java, OpenSSL and Python read them."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


class Authority:
    """A certificate authority whose files are in a folder.

    Attributes:
        ca_file: its own certificate, for those who are to trust it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str) -> Path:
        """A file with a key, its certificate for `name` and for this machine, and the authority's."""
        leaf = self._ca.issue_cert(name, "localhost", "127.0.0.1")
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,  # the one form that Java reads
            serialization.NoEncryption(),
        )
        file = self._folder / f"{name}.pem"
        file.write_bytes(key + b"".join(pem.bytes() for pem in leaf.cert_chain_pems) + self._ca.cert_pem.bytes())
        return file

    def server_context(self) -> ssl.SSLContext:
        """For a server of this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issue("server"))
        return context
