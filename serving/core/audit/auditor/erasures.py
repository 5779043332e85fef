"""Compare erasures with their log entries.

A missing salt is excused only by a certificate that the log's key signed and that names the decision with the digest of
what was retained of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serving.core.audit import entries
from serving.core.audit.auditor.findings import AuditReport, Body, Comparison
from serving.core.audit.entry_checks import to_bytes
from serving.core.db.schema import ERASURES


class ErasureChecks(Comparison):
    """key: the public key of the log, which signs certificates, too."""

    def __init__(self, connection: sa.Connection, report: AuditReport, key: Ed25519PublicKey):
        super().__init__(connection, report)
        self.key = key
        self.certified: dict[str, str] = {}  # decision whose salt an erasure deleted -> digest of its retained row

    def check_erasure(self, index: int, body: Body) -> None:
        """The columns of an erasure decide which subjects no training may use, so they must match the certificate."""
        row = self.fetch_row(sa.select(ERASURES).where(ERASURES.c.id == body["ref"]), "erasures", body["ref"], index)
        if row is None:
            return
        location = f"erasures {body['ref']}"
        self.report.rows["erasures"] += 1
        self.check_leaf_index("erasures", body["ref"], row["leaf"], index)
        content = to_bytes(row["certificate"])
        if entries.sha256_hex(content) != body["certificate_sha256"]:
            self.report_edited(location, index, "certificate")
            return
        if not self._is_signed(to_bytes(row["signature"]), content):
            self.report.add("not signed", location, "the log's key did not sign its certificate")
            return
        certificate = orjson.loads(content)
        expected = {"id": "certificate", "product": "product", "pseudonym": "pseudonym", "at": "at"}
        if mismatches := [column for column, name in expected.items() if row[column] != certificate.get(name)]:
            self.report_edited(location, index, ", ".join(mismatches))
        self.certified |= {str(name): str(digest) for name, digest in certificate.get("decisions", {}).items()}

    def _is_signed(self, signature: bytes, content: bytes) -> bool:
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    def finish(self, unsalted_decisions: Mapping[str, Any]) -> None:
        """unsalted_decisions: decisions without a salt, with the digests of their rows as they are now."""
        for decision, digest in sorted(unsalted_decisions.items()):
            location = f"decisions {decision}"
            if decision not in self.certified:
                self.report.add("edited", location, "its salt is gone, and no certificate of an erasure names it")
            elif self.certified[decision] != digest:
                self.report.add("edited", location, "it is not what the certificate of its erasure says was retained")
