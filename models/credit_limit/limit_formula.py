"""From a probability to a limit: the formula, written once for floats, numpy arrays and z3's reals.

    L_aff  = present value of (max_dsr * net monthly income - debt service) over the term, at the rate + stress
    L_risk = largest L with PD * LGD * CCF * L <= loss budget of the grade * factor of the use of lines
    L_pool = max(0, sum(haircut_k * asset_k) - debts)
    L_base = min(L_aff, L_risk, product cap[, L_pool where the product is asset-based])
    m      = 1 + u * clip((S - qualify) / span, 0, 1)
    L      = floor to the rounding of min(L_base * m, L_base + uplift cap, L_aff, legal cap)

What the solver proves of the reals holds of the floats too: IEEE 754 rounds each single step (+, *, /, min, max)
monotonically, so rounding cannot turn an order round; the floor is taken by an exact remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.credit_limit.policy import Policy
from models.policy.arithmetic import Bound, Flag, Floats, Number, annuity, any_of, least_known

MORAL_GROUPS = ("self_assessment", "village_appraisal")  # indicator groups that count in m, and nowhere else
CONDUCT = ("law_abiding", "public_spirit", "honesty_diligence", "family_neighbourhood")
APPRAISAL = ("raters", "raters_sd", "related_rater")
ASSETS = ("housing", "land_use_rights", "equipment", "deposits")
# Numbers the formula reads: `veto` is 1 where a statutory code was reported, `consent` 0 where moral data must rest.
READS = (
    "pd", "declared_income", "monthly_debt_service", "utilisation", *ASSETS, "debts",
    "self_score", *CONDUCT, *APPRAISAL, "village_leniency", "age", "veto", "consent",
)  # fmt: skip


@dataclass(slots=True)
class Worked:
    """The limit and every amount on the way, in the policy's currency.

    bounds:   code -> Bound, in the order in which a tie is told.
    unlifted: why conduct does not count -> flag; the first that holds is the one told.
    caps:     code -> Bound, applied after the uplift.
    refer:    code of a referral -> flag.
    """

    bounds: dict[str, Bound]
    base: Number
    unlifted: dict[str, Flag]
    conduct: Number  # S, points of 110
    m: Number
    lifted: Number  # L_base * m
    caps: dict[str, Bound]
    exact: Number  # before rounding
    limit: Number
    refer: dict[str, Flag]
    referred: Flag  # any of `refer`; otherwise approved: there is no third answer


class Formula:
    """The formula under one policy; `work` takes READS by name."""

    def __init__(self, policy: Policy, ops: Any = Floats):
        self.policy, self.ops = policy, ops
        number, product, risk = ops.number, policy.product, policy.risk
        self.zero, self.one = number(0.0), number(1.0)
        self.annuity = number(annuity(product.annual_rate + policy.affordability.rate_stress, product.term_months))
        self.monthly_net = number(policy.affordability.net_income_share / 12)  # per declared income a year
        self.max_dsr = number(policy.affordability.max_dsr)
        self.severity = number(risk.lgd * risk.ccf)
        self.grades = [(number(grade.pd_up_to), number(grade.loss_budget)) for grade in risk.grades]
        use = risk.utilisation
        self.use = [
            (number(at), number(to - at), number((end - start) / (to - at)))
            for at, to, start, end in zip(use.at, use.at[1:], use.factor, use.factor[1:], strict=False)
        ]

    def work(self, a: Mapping[str, Number]) -> Worked:
        """An applicant's numbers -> Worked. Missing ones must be there as missing."""
        bounds = self.bounds(a)
        base = self.base(bounds)
        unlifted = self.unlifted(a)
        conduct = self.conduct(a)
        m = self.multiplier(conduct, unlifted)
        lifted = self.lifted(base, m)
        caps = self.caps(base, bounds)
        exact = self.granted(lifted, caps)
        refer = self.refer(a, bounds, base)
        referred = any_of(self.ops, refer.values())
        limit = self.ops.floor_to(exact, self.policy.product.rounding)
        return Worked(bounds, base, unlifted, conduct, m, lifted, caps, exact, limit, refer, referred)

    def bounds(self, a: Mapping[str, Number]) -> dict[str, Bound]:
        known, both = self.ops.known, self.ops.both
        income, service = a["declared_income"], a["monthly_debt_service"]
        bounds = {
            "affordability": (self.affordable(income, service), both(known(income), known(service))),
            "risk_budget": (self.risk(a["pd"], a["utilisation"]), True),
            "product_cap": (self.ops.number(self.policy.product.cap), True),
        }
        if self.policy.product.asset_based:
            bounds["assets"] = (self.pool(a), self._pool_known(a))
        return bounds

    def affordable(self, income: Number, service: Number) -> Number:
        """income a year, debt service a month."""
        room = self.max_dsr * (income * self.monthly_net) - service  # a month
        return self.ops.most(room, self.zero) * self.annuity

    def risk(self, pd: Number, utilisation: Number) -> Number:
        least = self.ops.number(self.policy.risk.pd_floor)
        return self.loss_budget(pd, utilisation) / (self.ops.most(pd, least) * self.severity)

    def loss_budget(self, pd: Number, utilisation: Number) -> Number:
        """What this household may be expected to cost, a year."""
        return self.grade_budget(pd) * self.use_factor(utilisation)

    def grade_budget(self, pd: Number) -> Number:
        budget = self.grades[-1][1]
        for edge, amount in reversed(self.grades[:-1]):
            budget = self.ops.where(pd <= edge, amount, budget)
        return budget

    def use_factor(self, utilisation: Number) -> Number:
        ops, use = self.ops, self.policy.risk.utilisation
        factor = ops.number(use.factor[0])
        for at, width, slope in self.use:
            factor = factor + slope * ops.least(ops.most(utilisation - at, self.zero), width)
        factor = ops.most(factor, self.zero)  # a sum of floats that ends at 0 may end a little below
        return ops.where(ops.known(utilisation), factor, ops.number(use.missing))

    def pool(self, a: Mapping[str, Number]) -> Number:
        """What the assets back beyond the debts; one without evidence backs nothing."""
        ops, haircuts = self.ops, self.policy.haircuts
        backing = self.zero
        for asset in ASSETS:
            share = ops.number(getattr(haircuts, asset))
            backing = backing + ops.where(ops.known(a[asset]), share * a[asset], self.zero)
        return ops.most(backing - a["debts"], self.zero)

    def _pool_known(self, a: Mapping[str, Number]) -> Flag:
        """The debts, and at least one asset."""
        some: Flag = False
        for asset in ASSETS:
            some = self.ops.either(some, self.ops.known(a[asset]))
        return self.ops.both(some, self.ops.known(a["debts"]))

    def base(self, bounds: Mapping[str, Bound]) -> Number:
        base = self.ops.number(self.policy.product.cap)
        for amount, known in bounds.values():
            base = least_known(self.ops, base, amount, known)
        return base

    def unlifted(self, a: Mapping[str, Number]) -> dict[str, Flag]:
        """Why conduct does not count, so that m = 1. None of these ever refers or refuses."""
        ops, conduct = self.ops, self.policy.conduct
        if conduct is None:
            return {"no_programme": True}
        some, every = False, True
        for name in CONDUCT:
            some, every = ops.either(some, ops.known(a[name])), ops.both(every, ops.known(a[name]))
        for name in APPRAISAL:
            every = ops.both(every, ops.known(a[name]))
        return {
            "consent_withdrawn": a["consent"] <= 0,
            "no_moral_data": ops.negate(some),
            "appraisal_incomplete": ops.negate(every),
            "too_few_raters": a["raters"] < conduct.min_raters,
            "related_rater": a["related_rater"] > 0,
        }

    def conduct(self, a: Mapping[str, Number]) -> Number:
        """S: the committee's points less the village's leniency, a little of the self-score, shrunk to the mean."""
        ops, conduct = self.ops, self.policy.conduct
        if conduct is None:
            return self.zero
        number, where = ops.number, ops.where
        committee = a["law_abiding"] + a["public_spirit"] + a["honesty_diligence"] + a["family_neighbourhood"]
        leniency, own = a["village_leniency"], a["self_score"]
        fair = committee - where(ops.known(leniency), leniency, number(conduct.unknown_leniency))
        weight = conduct.self_weight
        observed = where(ops.known(own), number(1 - weight) * fair + number(weight) * own, fair)
        spread = number(conduct.household_sd**2) * a["raters"]
        sd = ops.most(a["raters_sd"], number(conduct.least_rater_sd))
        mean = number(conduct.programme_mean)
        return mean + spread / (spread + sd * sd) * (observed - mean)

    def multiplier(self, score: Number, unlifted: Mapping[str, Flag]) -> Number:
        ops, conduct = self.ops, self.policy.conduct
        if conduct is None:
            return self.one
        above = (score - ops.number(conduct.qualify)) / ops.number(conduct.span)
        m = self.one + ops.number(conduct.u) * ops.least(ops.most(above, self.zero), self.one)
        return ops.where(any_of(ops, unlifted.values()), self.one, m)

    def lifted(self, base: Number, m: Number) -> Number:
        return base * m

    def caps(self, base: Number, bounds: Mapping[str, Bound]) -> dict[str, Bound]:
        number, conduct = self.ops.number, self.policy.conduct
        return {
            "uplift_cap": (base + number(conduct.cap if conduct else 0.0), True),
            "affordability": bounds["affordability"],
            "legal_cap": (number(self.policy.product.legal_cap), True),
        }

    def granted(self, lifted: Number, caps: Mapping[str, Bound]) -> Number:
        for amount, known in caps.values():
            lifted = least_known(self.ops, lifted, amount, known)
        return lifted

    def refer(self, a: Mapping[str, Number], bounds: Mapping[str, Bound], base: Number) -> dict[str, Flag]:
        """What sends an application to a person. Conduct is no part of it: it moves an amount, never the decision."""
        ops, policy = self.ops, self.policy
        refer = {
            "statutory_veto": a["veto"] > 0,
            "below_floor_grade": a["pd"] > ops.number(policy.approval_pd),
            "under_age": a["age"] < policy.min_age,
            "age_unknown": ops.negate(ops.known(a["age"])),
            "below_minimum": base < ops.number(policy.product.minimum),
        }
        for code in ("affordability", "assets"):
            if code in bounds:
                refer[f"lacks_{code}"] = ops.negate(bounds[code][1])
        return refer
