"""The indicators that a decision rests on: stated in the request, or read from the store under active grants."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets.errors import FieldError
from serving.core.db.reader import StoreReader
from serving.core.http.problems import ProblemError
from serving.core.identifiers import utc_now
from serving.decisions.products.base import DeployedModel
from serving.privacy.consent.rules import (
    GRANT_KINDS_ZH,
    ConsentDecision,
    ConsentRevokedError,
    ConsentRules,
    active_grants,
    evaluate_consent,
)
from serving.privacy.subjects.errors import SubjectErasedError, TamperedError
from serving.privacy.subjects.indicators import columns_by_group, latest_as_of
from serving.privacy.subjects.vault import Vault

log = logging.getLogger("yuheng.decisions")


@dataclass(frozen=True, slots=True)
class ResolvedInputs:
    """The indicators of one applicant, with the grants that opened them.

    pseudonym: of the subject, where the values come from the store. withheld_groups: groups of conduct that no grant
    opens.
    """

    values: Mapping[str, Any]
    simulated: bool = False
    pseudonym: str | None = None
    grants: tuple[str, ...] = ()
    withheld_groups: tuple[str, ...] = ()


def load_stored_inputs(
    reader: StoreReader, vault: Vault, rules: ConsentRules | None, model: DeployedModel, subject: str, tenant: str
) -> ResolvedInputs:
    """Read a subject's indicators: of the groups that the model reads, those that the tenant's grants open.

    rules: None where no grant is required. Raises ProblemError where the subject is unknown, where a group other than
    conduct is not authorised, and where a stored value was changed.
    """
    product, timestamp = model.card.product, utc_now()
    pseudonym, groups = vault.pseudonym(product, subject), sorted(columns_by_group(model.table))
    consent = check_consent(reader, rules, product, pseudonym, groups, tenant, timestamp)
    try:
        stored = reader.run(
            lambda connection: latest_as_of(connection, vault, pseudonym, consent.allowed_groups, timestamp[:10])
        )
    except TamperedError as error:
        log.error("a subject's stored indicators are refused: %s", error)
        raise ProblemError("indicators_refused", actual=str(error)) from error
    if stored is None:
        raise ProblemError("unknown_subject", actual=repr(subject))
    field_names = {column.name for column in model.fields}
    values = {name: value for name, value in stored.values.items() if name in field_names}
    return ResolvedInputs(values, stored.simulated, pseudonym, consent.grants, consent.withheld)


def check_consent(
    reader: StoreReader,
    rules: ConsentRules | None,
    product: str,
    pseudonym: str,
    groups: Sequence[str],
    tenant: str,
    timestamp: str,
) -> ConsentDecision:
    """Which of these groups a tenant may read. Raises ProblemError where one other than conduct is not authorised."""
    if rules is None:
        return ConsentDecision(tuple(groups), (), (), {})
    grants = reader.run(lambda connection: active_grants(connection, tenant, product, pseudonym, timestamp))
    consent = evaluate_consent(rules, product, groups, grants)
    if consent.missing:
        raise not_authorised_problem(consent.missing)
    return consent


def redact_faults(faults: Sequence[FieldError]) -> list[FieldError]:
    """Faults of stored indicators without their values, which the caller may not see."""
    value_free = {"missing", "not known"}
    return [
        fault if fault.actual in value_free else replace(fault, actual="another value in the store") for fault in faults
    ]


def withheld_notice(groups: Sequence[str]) -> dict[str, Any]:
    """The remark in a response whose groups of conduct were not read."""
    group_list = ", ".join(groups)
    return {
        "code": "conduct_not_authorised",
        "groups": list(groups),
        "en": f"No personal authorisation covers {group_list}, so it was not read and does not raise the limit; "
        "nothing else changes.",
        "zh": f"{group_list} 无有效个人授权，未予读取，不作上浮，其他不受影响。",
    }


def not_authorised_problem(missing: Mapping[str, Sequence[str]]) -> ProblemError:
    """missing: group -> the kinds of grant that would open it."""
    kinds = sorted({kind for group_kinds in missing.values() for kind in group_kinds})
    expected_zh = "、".join(GRANT_KINDS_ZH[kind] for kind in kinds)
    return ProblemError(
        "not_authorised", actual=", ".join(missing), expected=" and ".join(kinds) + " kind", expected_zh=expected_zh
    )


def to_problem(error: ConsentRevokedError | SubjectErasedError) -> ProblemError:
    """The problem of a decision that was not recorded, as its grant or its subject was gone by then."""
    if isinstance(error, SubjectErasedError):
        return ProblemError("unknown_subject", actual="(erased meanwhile)", actual_zh="（已被删除）")
    return ProblemError("authorisation_ended", actual=str(error))
