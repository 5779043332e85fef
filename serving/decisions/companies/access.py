"""Who may read a stored company: the grants that open it, and the log entries that these grants were used."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.http.principal import Principal
from serving.core.identifiers import new_id, utc_now
from serving.decisions.inputs import check_consent, to_problem
from serving.decisions.products.scitech_risk import PRODUCT
from serving.decisions.service import DecisionService
from serving.privacy.consent import usage
from serving.privacy.consent.rules import ConsentRevokedError, active_grants_by_subject, evaluate_consent
from serving.privacy.subjects.indicators import columns_by_group

USE_INTERVAL = 60.0  # seconds within which the same view counts as one use
MAX_REMEMBERED_USES = 10_000


class CompanyAccess:
    """Views of a company need the grants that a decision about it would need, as they are derived from its indicators.

    Call the methods in a thread: they read and write the store.
    """

    def __init__(self, service: DecisionService):
        self.service = service
        self._recorded_uses: dict[tuple[str, ...], float] = {}  # tenant, view, company, grants -> monotonic seconds

    def required_groups(self, extra_groups: Sequence[str] = ()) -> list[str]:
        """The groups of indicators that the default model reads, and these."""
        return sorted({*columns_by_group(self.service.deployed_model(PRODUCT, None).table), *extra_groups})

    def authorising_grants(self, company_id: str, principal: Principal, extra_groups: Sequence[str] = ()) -> set[str]:
        """The ids of the grants that open the company to the caller. Raises ProblemError where there are none."""
        store = self.service.store
        pseudonym, groups = store.vault.pseudonym(PRODUCT.name, company_id), self.required_groups(extra_groups)
        rules = self.service.consent_rules
        consent = check_consent(store.reader, rules, PRODUCT.name, pseudonym, groups, principal.tenant, utc_now())
        return set(consent.grants)

    def visible_companies(
        self, tenant: str, extra_groups: Sequence[str], connection: sa.Connection, pseudonyms: list[str]
    ) -> tuple[set[str], set[str]]:
        """(those of these companies that the tenant may read, the ids of the grants that open them)."""
        rules = self.service.consent_rules
        if rules is None:
            return set(pseudonyms), set()
        groups = self.required_groups(extra_groups)
        grants = active_grants_by_subject(connection, tenant, PRODUCT.name, pseudonyms, utc_now())
        shared_grants = grants.pop(None, [])
        visible: set[str] = set()
        used_grants: set[str] = set()
        for pseudonym in pseudonyms:
            consent = evaluate_consent(rules, PRODUCT.name, groups, [*shared_grants, *grants.get(pseudonym, [])])
            if not consent.missing:
                visible.add(pseudonym)
                used_grants.update(consent.grants)
        return visible, used_grants

    def record_use(self, view: str, company_id: str, principal: Principal, used_grants: Collection[str]) -> None:
        """Record in the audit log that the grants were used, before what they opened is sent.

        Repeated views within USE_INTERVAL are one use, so that dragging a slider records a single one. Raises
        ProblemError where a grant ended meanwhile.
        """
        use_key = (principal.tenant, view, company_id, *sorted(used_grants))
        if not used_grants or time.monotonic() - self._recorded_uses.get(use_key, -USE_INTERVAL) < USE_INTERVAL:
            return
        entry = entries.read_entry(view, utc_now(), principal.tenant, new_id(), PRODUCT.name, used_grants)
        try:
            self.service.store.writer.run(lambda connection: usage.record(connection, entry)).result()
        except ConsentRevokedError as error:
            raise to_problem(error) from error
        if len(self._recorded_uses) >= MAX_REMEMBERED_USES:
            self._recorded_uses.clear()
        self._recorded_uses[use_key] = time.monotonic()
