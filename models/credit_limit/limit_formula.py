"""Compute a credit limit from a probability of default, by one formula for floats, numpy arrays and z3 reals.

    L_aff  = present value of (max_dsr * net monthly income - debt service) over the term, at the rate + stress
    L_risk = largest L with PD * LGD * CCF * L <= loss budget of the grade * factor of the utilisation
    L_pool = max(0, sum(haircut_k * asset_k) - debts)
    L_base = min(L_aff, L_risk, product cap[, L_pool if the product is asset-based])
    m      = 1 + u * clip((S - qualify) / span, 0, 1)
    L      = floor to the rounding of min(L_base * m, L_base + uplift cap, L_aff, product cap, legal cap)

An unknown income, debt service or debt counts as the policy assumes, and a person decides. An unknown use of lines
counts as the highest, an unknown asset as nothing; conduct counts only where the appraisal is complete.

What is proved for reals holds for floats too: IEEE 754 rounds each step (+, *, /, min, max) monotonically, so rounding
cannot reverse an order; the floor uses an exact remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.credit_limit.policy import INCOME, STOP_INDICATORS, Policy
from models.policy.arithmetic import Bound, Flag, Number, ScalarOps, annuity_factor, any_of
from models.policy.limit_formula import LimitFormula

MORAL_GROUPS = ("self_assessment", "village_appraisal")  # indicator groups that count in m and nowhere else
CONDUCT = ("law_abiding", "public_spirit", "honesty_diligence", "family_neighbourhood")
APPRAISAL = ("raters", "raters_sd", "related_rater")
ASSETS = ("housing", "land_use_rights", "equipment", "deposits")
# Inputs of the formula: `veto` is 1 if a statutory code was reported, `consent` is 0 if moral data may not be used;
# `unknown_inputs` is the number of unknown inputs of the PD without which a person decides.
FORMULA_INPUTS = (
    "pd", *INCOME, "utilisation", *ASSETS, "debts", "self_score", *CONDUCT, *APPRAISAL, "village_leniency",
    *STOP_INDICATORS, "age", "veto", "consent", "unknown_inputs",
)  # fmt: skip


@dataclass(slots=True)
class CreditLimitResult:
    """The limit and all intermediate amounts, in the policy's currency.

    bounds:   code -> Bound; the first of equal bounds is reported as binding.
    no_uplift_reasons: code of why conduct does not count -> flag; the first that holds is reported.
    caps:     code -> Bound, applied after the uplift.
    referral_reasons: code of a referral -> flag.
    """

    bounds: dict[str, Bound]
    base: Number
    no_uplift_reasons: dict[str, Flag]
    conduct_score: Number  # S, points of 110
    multiplier: Number
    uplifted: Number  # L_base * m
    caps: dict[str, Bound]
    unrounded: Number  # before rounding
    limit: Number
    referral_reasons: dict[str, Flag]
    referred: Flag  # any of `referral_reasons`; otherwise approved


class CreditLimitFormula(LimitFormula):
    """The formula under one policy."""

    def __init__(self, policy: Policy, ops: Any = ScalarOps):
        super().__init__(policy, ops)
        self.policy = policy
        number, product = ops.number, policy.product
        self.annuity_factor = number(
            annuity_factor(product.annual_rate + policy.affordability.rate_stress, product.term_months)
        )
        self.monthly_net_share = number(
            policy.affordability.net_income_share / 12
        )  # monthly net income per declared yearly income
        self.max_dsr = number(policy.affordability.max_dsr)
        self.term_years = number(product.term_months / 12)
        self.needed_facts = tuple(n for n in policy.needed_indicators if n in FORMULA_INPUTS and n not in INCOME)
        utilisation = policy.risk.utilisation
        self.utilisation_segments = [
            (number(low), number(high - low), number((end - start) / (high - low)))
            for low, high, start, end in zip(
                utilisation.at, utilisation.at[1:], utilisation.factor, utilisation.factor[1:], strict=False
            )
        ]

    def evaluate(self, inputs: Mapping[str, Number]) -> CreditLimitResult:
        """Evaluate the formula. inputs: all of FORMULA_INPUTS by name; absent values as NaN (for z3 as unknown)."""
        bounds = self.bounds(inputs)
        base = self.base_limit(bounds)
        no_uplift_reasons = self.no_uplift_reasons(inputs)
        conduct = self.conduct_score(inputs)
        multiplier = self.multiplier(conduct, no_uplift_reasons)
        uplifted = self.uplift(base, multiplier)
        caps = self.caps(base, bounds)
        unrounded = self.apply_caps(uplifted, caps)
        referral_reasons = self.referral_reasons(inputs, bounds, base)
        referred = any_of(self.ops, referral_reasons.values())
        limit = self.ops.floor_to(unrounded, self.policy.product.rounding)
        return CreditLimitResult(
            bounds,
            base,
            no_uplift_reasons,
            conduct,
            multiplier,
            uplifted,
            caps,
            unrounded,
            limit,
            referral_reasons,
            referred,
        )

    def bounds(self, inputs: Mapping[str, Number]) -> dict[str, Bound]:
        """The upper bounds of the limit, by code."""
        is_known, logical_and = self.ops.is_known, self.ops.logical_and
        income, service = (self.counted(inputs, name) for name in INCOME)
        bounds = {
            "affordability": (
                self.affordability_limit(income, service),
                logical_and(*(is_known(inputs[name]) for name in INCOME)),
            ),
            "risk_budget": (self.risk_limit(inputs["pd"], inputs["utilisation"]), True),
            "product_cap": (self.product_cap, True),
        }
        if self.policy.product.asset_based:
            bounds["assets"] = (self.collateral(inputs), self._is_collateral_known(inputs))
        return bounds

    def affordability_limit(self, income: Number, service: Number) -> Number:
        """The loan that the income can service. income: per year; service: existing debt service per month."""
        monthly_capacity = self.max_dsr * (income * self.monthly_net_share) - service
        return self.ops.maximum(monthly_capacity, self.zero) * self.annuity_factor

    def loss_budget(self, pd: Number, utilisation: Number) -> Number:
        return self.grade_budget(pd) * self.utilisation_factor(utilisation)

    def utilisation_factor(self, utilisation: Number) -> Number:
        ops, factors = self.ops, self.policy.risk.utilisation.factor
        factor = ops.number(factors[0])
        for start, width, slope in self.utilisation_segments:
            factor = factor + slope * ops.minimum(ops.maximum(utilisation - start, self.zero), width)
        factor = ops.maximum(factor, self.zero)  # a sum of floats meant to be 0 may be slightly below
        return ops.where(ops.is_known(utilisation), factor, ops.number(factors[-1]))  # the last is the lowest

    def collateral(self, inputs: Mapping[str, Number]) -> Number:
        """The assets after haircuts less the debts; an unknown asset counts as nothing."""
        ops, haircuts = self.ops, self.policy.haircuts
        backing = self.zero
        for asset in ASSETS:
            share = ops.number(getattr(haircuts, asset))
            backing = backing + ops.where(ops.is_known(inputs[asset]), share * inputs[asset], self.zero)
        return ops.maximum(backing - self.counted(inputs, "debts"), self.zero)

    def _is_collateral_known(self, inputs: Mapping[str, Number]) -> Flag:
        """Whether the debts and at least one asset are known."""
        any_known: Flag = False
        for asset in ASSETS:
            any_known = self.ops.logical_or(any_known, self.ops.is_known(inputs[asset]))
        return self.ops.logical_and(any_known, self.ops.is_known(inputs["debts"]))

    def no_uplift_reasons(self, inputs: Mapping[str, Number]) -> dict[str, Flag]:
        """Why conduct does not count, so that m = 1. None of these refers or refuses an application."""
        ops, conduct = self.ops, self.policy.conduct
        if conduct is None:
            return {"no_programme": True}
        any_known, all_known = False, True
        for name in CONDUCT:
            any_known, all_known = (
                ops.logical_or(any_known, ops.is_known(inputs[name])),
                ops.logical_and(all_known, ops.is_known(inputs[name])),
            )
        for name in (*APPRAISAL, "village_leniency"):
            all_known = ops.logical_and(all_known, ops.is_known(inputs[name]))
        return {
            "consent_withdrawn": inputs["consent"] <= 0,
            "no_moral_data": ops.logical_not(any_known),
            "appraisal_incomplete": ops.logical_not(all_known),
            "too_few_raters": inputs["raters"] < conduct.min_raters,
            "related_rater": inputs["related_rater"] > 0,
        }

    def conduct_score(self, inputs: Mapping[str, Number]) -> Number:
        """S: the committee's points less the village's leniency, mixed with some self-score, shrunk to the mean.

        A self-score that was not filed counts as 0: the household decides whether it files one.
        """
        ops, conduct = self.ops, self.policy.conduct
        if conduct is None:
            return self.zero
        number, where = ops.number, ops.where
        committee = (
            inputs["law_abiding"]
            + inputs["public_spirit"]
            + inputs["honesty_diligence"]
            + inputs["family_neighbourhood"]
        )
        self_score, weight = inputs["self_score"], conduct.self_weight
        self_points = where(ops.is_known(self_score), number(weight) * self_score, self.zero)
        observed = number(1 - weight) * (committee - inputs["village_leniency"]) + self_points
        household_variance = number(conduct.household_sd**2) * inputs["raters"]
        rater_sd = ops.maximum(inputs["raters_sd"], number(conduct.least_rater_sd))
        mean = number(conduct.programme_mean)
        return mean + household_variance / (household_variance + rater_sd * rater_sd) * (observed - mean)

    def multiplier(self, score: Number, no_uplift_reasons: Mapping[str, Flag]) -> Number:
        ops, conduct = self.ops, self.policy.conduct
        if conduct is None:
            return self.one
        progress = (score - ops.number(conduct.qualify)) / ops.number(conduct.span)
        multiplier = self.one + ops.number(conduct.u) * ops.minimum(ops.maximum(progress, self.zero), self.one)
        return ops.where(any_of(ops, no_uplift_reasons.values()), self.one, multiplier)

    def uplift(self, base: Number, multiplier: Number) -> Number:
        return base * multiplier

    def caps(self, base: Number, bounds: Mapping[str, Bound]) -> dict[str, Bound]:
        number, conduct = self.ops.number, self.policy.conduct
        return {
            "uplift_cap": (base + number(conduct.cap if conduct else 0.0), True),
            "affordability": bounds["affordability"],
            "product_cap": (self.product_cap, True),
            "legal_cap": (number(self.policy.product.legal_cap), True),
        }

    def apply_caps(self, limit: Number, caps: Mapping[str, Bound]) -> Number:
        for amount, _ in caps.values():
            limit = self.ops.minimum(limit, amount)
        return limit

    def referral_reasons(
        self, inputs: Mapping[str, Number], bounds: Mapping[str, Bound], base: Number
    ) -> dict[str, Flag]:
        """Why an application is referred to a person. Conduct changes an amount, never the decision."""
        ops, policy = self.ops, self.policy
        reasons = {
            "statutory_veto": ops.logical_and(ops.is_known(inputs["veto"]), inputs["veto"] > 0),
            **self.stop_reasons(inputs),
            "fact_unknown": self.lacks_needed(inputs, (*self.needed_facts, "veto")),
            "below_floor_grade": inputs["pd"] > ops.number(policy.approval_pd),
            "under_age": inputs["age"] < policy.min_age,
            "over_age": inputs["age"] + self.term_years > policy.max_age_at_end,
            "age_unknown": ops.logical_not(ops.is_known(inputs["age"])),
            "below_minimum": base < ops.number(policy.product.minimum),
        }
        for code in ("affordability", "assets"):
            if code in bounds:
                reasons[f"lacks_{code}"] = ops.logical_not(bounds[code][1])
        return reasons
