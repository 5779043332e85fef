"""Reads the subjects that a chunk of a batch names: many in one transaction, each under its own active grants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from datasets.errors import FieldError
from datasets.schema import TableSchema
from serving.core.db.reader import StoreReader
from serving.core.identifiers import utc_now
from serving.decisions.batch.files.formats import SUBJECT_COLUMN
from serving.decisions.inputs import ResolvedInputs
from serving.decisions.products.base import DeployedModel
from serving.privacy.consent.rules import (
    GRANT_KINDS_ZH,
    ConsentDecision,
    ConsentRules,
    active_grants_by_subject,
    evaluate_consent,
)
from serving.privacy.subjects.errors import TamperedError
from serving.privacy.subjects.indicators import columns_by_group, latest_as_of_many
from serving.privacy.subjects.vault import Vault, wrapped_keys

SUBJECT_SCHEMA = TableSchema(name="the subjects", columns=(SUBJECT_COLUMN,))
MAX_ID_CHARS = 255  # characters of an id
# Columns of the answer to a file that names subjects, besides those of every batch.
EXTRA_COLUMNS = ("subject", "inputs", "indicators_from", "authorisations", "not_read")


@dataclass(frozen=True, slots=True)
class SubjectInputs(ResolvedInputs):
    """What a row's answer rests on. inputs_digest: of the values, under the subject's own key."""

    inputs_digest: str = ""


@dataclass(frozen=True)
class SubjectReader:
    """Reads for one tenant the indicators that one model needs. rules: None where no grant is required."""

    reader: StoreReader
    vault: Vault
    rules: ConsentRules | None
    model: DeployedModel
    tenant: str

    def read(self, ids: Sequence[str]) -> dict[str, SubjectInputs | FieldError]:
        """Id -> its inputs, or a fault that does not quote the id. Raises StoreUnavailableError."""
        product = self.model.card.product
        ids_by_pseudonym = {self.vault.pseudonym(product, subject_id): subject_id for subject_id in dict.fromkeys(ids)}
        results = self.reader.run(lambda connection: dict(self._read_pseudonyms(connection, [*ids_by_pseudonym])))
        return {subject_id: results[name] for name, subject_id in ids_by_pseudonym.items()}

    def _read_pseudonyms(
        self, connection: sa.Connection, pseudonyms: list[str]
    ) -> Iterator[tuple[str, SubjectInputs | FieldError]]:
        timestamp, field_names = utc_now(), {column.name for column in self.model.fields}
        consents = self._evaluate_consents(connection, pseudonyms, timestamp)
        keys: dict[str, bytes] = {}
        for name, wrapped in wrapped_keys(
            connection, [name for name, consent in consents.items() if not consent.missing]
        ):
            try:
                keys[name] = self.vault.unwrap(wrapped, name)
            except TamperedError:
                yield name, TAMPERED_SUBJECT
                consents.pop(name)
        by_groups: dict[tuple[str, ...], list[str]] = {}
        for name, consent in consents.items():
            if consent.missing:
                yield name, _not_authorised_fault(consent)
            elif name not in keys:
                yield name, UNKNOWN_SUBJECT
            else:
                by_groups.setdefault(consent.allowed_groups, []).append(name)
        for groups, members in by_groups.items():
            stored = latest_as_of_many(
                connection, self.vault, {name: keys[name] for name in members}, groups, timestamp[:10]
            )
            for name, indicators in stored.items():
                if isinstance(indicators, TamperedError):
                    yield name, TAMPERED_SUBJECT
                    continue
                values = {column: value for column, value in indicators.values.items() if column in field_names}
                digest = self.vault.keyed_digest(keys[name], orjson.dumps(values, option=orjson.OPT_SORT_KEYS))
                yield (
                    name,
                    SubjectInputs(
                        values, indicators.simulated, name, consents[name].grants, consents[name].withheld, digest
                    ),
                )

    def _evaluate_consents(
        self, connection: sa.Connection, pseudonyms: list[str], timestamp: str
    ) -> dict[str, ConsentDecision]:
        product, groups = self.model.card.product, sorted(columns_by_group(self.model.table))
        if self.rules is None:
            return dict.fromkeys(pseudonyms, ConsentDecision(tuple(groups), (), (), {}))
        grants = active_grants_by_subject(connection, self.tenant, product, pseudonyms, timestamp)
        shared_grants = grants.get(None, [])
        default_consent = evaluate_consent(self.rules, product, groups, shared_grants)
        consents = dict.fromkeys(pseudonyms, default_consent)
        for name, own_grants in grants.items():
            if name is not None:
                all_grants = sorted([*shared_grants, *own_grants], key=lambda grant: grant.id)
                consents[name] = evaluate_consent(self.rules, product, groups, all_grants)
        return consents


UNKNOWN_SUBJECT = FieldError(
    SUBJECT_COLUMN.name,
    "not in the store",
    "one that was loaded; load it, or send its indicators",
    "已入库主体的编号，或直接发送指标",
)
TAMPERED_SUBJECT = FieldError(
    SUBJECT_COLUMN.name, "one whose stored values were changed", "loaded again; find out who changed the store",
    "重新入库，并查明是谁改动了数据库",
)  # fmt: skip


def _not_authorised_fault(consent: ConsentDecision) -> FieldError:
    kinds = sorted({kind for group_kinds in consent.missing.values() for kind in group_kinds})
    groups = ", ".join(consent.missing)
    actual = f"without an active authorisation of {' and '.join(kinds)} kind for {groups}"
    expected_zh = f"先取得{'、'.join(GRANT_KINDS_ZH[kind] for kind in kinds)}（{groups}）"
    return FieldError(SUBJECT_COLUMN.name, actual, "one that it was granted to you for; nothing was read", expected_zh)
