"""What a sci-tech desk sees of a stored company: its history, what lies around it, and its answer under stress.

Each is told under the authorisations that a decision about the company would need. Of what is told nothing is recorded
but that it was, in the log, where it counts among the uses of these authorisations.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from datasets.schema import unknown_names
from models.policy.config import load
from models.scitech_risk.stress import Shock, Stress, sized
from serving.core.audit import entries
from serving.core.http.principal import Caller
from serving.core.http.problems import Problem
from serving.core.http.request import JSON, Call, Reply, read_body
from serving.core.http.schema import STORE, Schema, in_path, in_query, operation, told_as_json
from serving.core.http.validation import parse_json
from serving.core.identifiers import new_id, now
from serving.decisions.companies import history as companies
from serving.decisions.companies import network as networks
from serving.decisions.inputs import unvalued
from serving.decisions.products.scitech_risk import PRODUCT, ScitechRisk
from serving.decisions.request import Question
from serving.decisions.service import JSON_OPTIONS, DecisionService, ended
from serving.privacy.consent import usage
from serving.privacy.consent.redaction import veiled
from serving.privacy.consent.rules import GrantsGone, live_of, opened
from serving.privacy.subjects.indicators import groups_of
from serving.privacy.subjects.vault import Tampered
from serving.settings import ROOT

log = logging.getLogger("yuheng.companies")

Handler = Callable[[Call], Awaitable[Reply]]
STRESS = f"{PRODUCT.route}/stress"
HISTORY, NETWORK = "/v1/companies/{id}/history", "/v1/companies/{id}/network"
CONFIG = ROOT / "configs" / "stress.toml"
TOLD = ("decision", "grade", "limit", "indicative_limit", "currency", "referral", "gate")
MINUTE, NOTED = 60.0, 10_000  # seconds within which the same look is one; looks that are remembered
LOOKS = ("not_authorised", "authorisation_ended", "indicators_refused")
PROBLEMS = {
    HISTORY: ("unknown_company", "bad_parameter", *LOOKS, *STORE),
    NETWORK: ("unknown_company", *LOOKS, *STORE),
    f"GET {STRESS}": ("not_ready",),
    f"POST {STRESS}": (
        "empty_body", "not_utf8", "malformed_json", "unknown_model", "unknown_subject", *LOOKS,
        "slow_request", "body_too_large", "unsupported_media_type", "invalid_request", *STORE,
    ),
}  # fmt: skip


class CompanyDesk:
    """Raises PolicyRefused."""

    def __init__(self, service: DecisionService):
        self.service = service
        self.stress = load(Stress, CONFIG)
        self._noted: dict[tuple[str, ...], float] = {}  # whose look at what, by which grants: when it was noted

    def routes(self) -> dict[str, dict[str, Handler]]:
        return {
            HISTORY: {"GET": self.history},
            NETWORK: {"GET": self.network},
            STRESS: {"GET": self.shocks, "POST": self.stressed},
        }

    async def history(self, call: Call) -> Reply:
        page, company, service, caller = companies.page(call), call.path[0], self.service, call.caller

        def work() -> bytes:
            used = self._authorised(company, caller)
            told = companies.history(service.store.reader, service.vault, caller.tenant, company, page)
            self._note("history", company, caller, used)
            return told

        return Reply(await asyncio.to_thread(_untouched, work))

    async def network(self, call: Call) -> Reply:
        company, service, caller = call.path[0], self.service, call.caller

        def work() -> bytes:
            used = self._authorised(company, caller, networks.GROUPS)
            readable = partial(self._readable, caller.tenant, used)
            told = networks.network(service.store.reader, service.vault, company, readable)
            self._note("network", company, caller, used)
            return told

        return Reply(await asyncio.to_thread(_untouched, work))

    def _groups(self, more: Sequence[str] = ()) -> list[str]:
        return sorted({*groups_of(self.service.held(PRODUCT, None).table), *more})

    def _authorised(self, company: str, caller: Caller, more: Sequence[str] = ()) -> set[str]:
        """By which grants. Warnings and ties are made of indicators, so they are told to who may read those of a
        decision. Raises Problem."""
        service = self.service
        _ = service.store.reader  # opens the store, and the vault with it
        pseudonym = service.vault.pseudonym(PRODUCT.name, company)
        return set(service.opened(PRODUCT, pseudonym, self._groups(more), caller, now()).grants)

    def _note(self, what: str, company: str, caller: Caller, used: Collection[str]) -> None:
        """A leaf that the grants were used, before what they opened is told: one a minute of the same look, so that a
        slider's steps are one. In a thread. Raises Problem where a grant ended meanwhile."""
        look = (caller.tenant, what, company, *sorted(used))
        if not used or time.monotonic() - self._noted.get(look, -MINUTE) < MINUTE:
            return
        entry = entries.read(what, now(), caller.tenant, new_id(), PRODUCT.name, used)
        try:
            self.service.store.writer.run(lambda connection: usage.note(connection, entry)).result()
        except GrantsGone as gone:
            raise ended(gone) from gone
        if len(self._noted) >= NOTED:
            self._noted.clear()
        self._noted[look] = time.monotonic()

    def _readable(self, tenant: str, used: set[str], connection: sa.Connection, names: list[str]) -> set[str]:
        """Of these companies, those that the tenant might ask about. By which grants goes into `used`."""
        told, groups = self.service.rules, self._groups(networks.GROUPS)
        if told is None:
            return set(names)
        grants = live_of(connection, tenant, PRODUCT.name, names, now())
        everybodys = grants.pop(None, [])
        found = set()
        for name in names:
            may = opened(told, PRODUCT.name, groups, [*everybodys, *grants.get(name, [])])
            if not may.lacking:
                found.add(name)
                used.update(may.grants)
        return found

    # --- one company under stress

    def _offered(self, held: ScitechRisk) -> dict[str, Shock]:
        """Those that move something of what the model or its policy reads; a trade's is taken to hit the company."""
        known = {column.name for column in held.fields}
        return {
            shock.code: shock.model_copy(update={"trade": ""})
            for shock in self.stress.shocks
            if shock.rate or shock.log_odds or any(effect.column in known for effect in shock.effects)
        }

    def _held(self, model: str | None) -> ScitechRisk:
        held = self.service.held(PRODUCT, model)
        assert isinstance(held, ScitechRisk)
        return held

    async def shocks(self, call: Call) -> Reply:
        held, desk = self._held(None), self.stress.desk
        columns = {column.name: column for column in held.fields}
        trades = {shock.code for shock in self.stress.shocks if shock.trade}
        told = [
            {
                "code": shock.code,
                "en": shock.en,
                "zh": shock.zh,
                "why_en": shock.why_en,
                "why_zh": shock.why_zh,
                "own_trade": shock.code in trades,
                "rate": shock.rate,
                "log_odds": shock.log_odds,
                "moves": [
                    {"indicator": effect.column, "en": column.label, "zh": column.label_zh, "times": effect.times}
                    for effect in shock.effects
                    if effect.times != 1 and not effect.plus and (column := columns.get(effect.column))
                ],
            }
            for shock in self._offered(held).values()
        ]
        return Reply(orjson.dumps({"shocks": told, "step": desk.step, "most": desk.most}))

    async def stressed(self, call: Call) -> Reply:
        media_type = call.media_type()
        if media_type != JSON:
            raise Problem("unsupported_media_type", found=repr(media_type) if media_type else "not given", needed=JSON)
        service = self.service
        limits = service.settings.limits
        asked = parse_json(await read_body(call, limits.body, limits.body_seconds))
        model = asked.get("model") if isinstance(asked, dict) else None
        held = self._held(model if isinstance(model, str) else None)
        shocks = self._read(asked, held)
        wishes = {wish.name: wish.default for wish in PRODUCT.wishes}
        _ = service.store.reader
        question = Question(None, asked["subject_id"], model, wishes)
        stated = await service.stated(PRODUCT, question, held, call.caller)
        row, faults = held.check(stated.values)
        if faults:
            raise Problem("invalid_request", errors=unvalued(faults))
        after, faults = held.stressed(stated.values, row, shocks)
        if after is None:
            raise Problem("invalid_request", errors=unvalued(faults))
        told = {
            "subject_id": asked["subject_id"],
            "recorded": False,
            "simulated": held.card.simulated or stated.simulated,
            "model": {"name": held.card.model, "version": held.card.version, "bundle": held.digest},
            "authorisations": list(stated.grants),
            "shocks": asked["shocks"],
            "before": _coarse(veiled(held.answer(stated.values, row, wishes), held.table)),
            "after": _coarse(veiled(after, held.table)),
        }
        await asyncio.to_thread(self._note, "stress", asked["subject_id"], call.caller, stated.grants)
        return Reply(orjson.dumps(told, option=JSON_OPTIONS))

    def _read(self, asked: Any, held: ScitechRisk) -> list[Shock]:
        """The shocks, as hard as asked. Raises Problem, with all that is wrong."""
        if not isinstance(asked, dict):
            raise Problem("invalid_request", errors=[Fault("(body)", type(asked).__name__, "an object", "JSON 对象")])
        names = ("subject_id", "shocks", "model")
        faults = unknown_names(asked, names, f"one of {', '.join(names)}", f"{'、'.join(names)} 之一")
        subject, model = asked.get("subject_id"), asked.get("model", "")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            faults.append(
                Fault("subject_id", repr(subject)[:60], "text of 1 to 255 characters", "1 至 255 个字符的文本")
            )
        if not isinstance(model, str):
            faults.append(Fault("model", repr(model)[:60], "the name of a model", "模型名称"))
        offered, sizes, given = self._offered(held), self.stress.desk.sizes, asked.get("shocks")
        if not isinstance(given, dict):
            given, needed = (
                {},
                (f"an object of shock: how hard; of {', '.join(offered)}", f"{'、'.join(offered)} 及其倍数"),
            )
            faults.append(Fault("shocks", type(given).__name__, *needed))
        elif not given:  # else it were a decision that nobody records
            faults.append(Fault("shocks", "none", "one shock or more", "至少一项冲击"))
        faults += unknown_names(given, offered, f"one of {', '.join(offered)}", f"{'、'.join(offered)} 之一")
        for code, size in given.items():
            if code in offered and (isinstance(size, bool) or size not in sizes):
                told = ", ".join(f"{each:g}" for each in sizes)
                faults.append(Fault(code, repr(size)[:60], f"one of {told}", f"{told} 之一"))
        if faults:
            raise Problem("invalid_request", errors=faults)
        return [sized(offered[code], size) for code, size in given.items()]


def _coarse(answer: dict[str, Any]) -> dict[str, Any]:
    """What of an answer is told: by exact amounts, few steps would give the company's own figures away, and by reasons
    it were a whole decision."""
    told = {name: answer[name] for name in TOLD if name in answer}
    told["pd"] = _figures(answer["pd"])
    bounds = (answer["ledger"] or {}).get("bounds", [])
    told["bounds"] = [
        {"code": one["code"], "binding": one["binding"], "amount": one["amount"] and int(_figures(one["amount"]))}
        for one in bounds
    ]
    return told


def _figures(value: float) -> float:
    """Of two figures, as 3,300,000 and 0.031."""
    return float(f"{value:.1e}")


def _untouched(work: Callable[[], bytes]) -> bytes:
    """Raises Problem where what the store holds was changed."""
    try:
        return work()
    except Tampered as error:
        log.error("what the store holds of a company is refused: %s", error)
        raise Problem("indicators_refused", found=str(error)) from error


def paths() -> Schema:
    text = {"type": "string"}
    told = {
        "type": "object",
        "required": ["subject_id", "recorded", "before", "after"],
        "properties": {"recorded": {"const": False}, "before": {"type": "object"}, "after": {"type": "object"}},
    }
    asked = {
        "type": "object",
        "required": ["subject_id", "shocks"],
        "properties": {
            "subject_id": text | {"minLength": 1, "maxLength": 255},
            "shocks": {"type": "object", "additionalProperties": {"type": "number"}},
            "model": text,
        },
        "additionalProperties": False,
    }
    listed = {"type": "object", "required": ["shocks", "step", "most"], "properties": {"shocks": {"type": "array"}}}
    company = in_path("id", "company_id of the register")
    return {
        HISTORY: {
            "get": operation(
                PROBLEMS[HISTORY],
                "history",
                "A company's months, and the decisions asked for by its id; newest first",
                told_as_json(companies.schema()),
                parameters=[
                    company,
                    in_query(
                        "limit",
                        {"type": "integer", "minimum": 1, "maximum": companies.MOST, "default": companies.USUAL},
                        "Most months, and most decisions.",
                    ),
                    in_query(
                        "before",
                        text | {"pattern": companies.BEFORE},
                        "A month or a decision_id: only what is older.",
                    ),
                ],
            )
        },
        NETWORK: {
            "get": operation(
                PROBLEMS[NETWORK],
                "network",
                "What lies around a company: who shares its officers, addresses and owners, and who trades with it",
                told_as_json(networks.schema()),
                parameters=[company],
            )
        },
        STRESS: {
            "get": operation(
                PROBLEMS[f"GET {STRESS}"],
                "shocks",
                "What a company may be put under, and how hard",
                told_as_json(listed),
            ),
            "post": operation(
                PROBLEMS[f"POST {STRESS}"],
                "stressCompany",
                "A stored company's answer as it is and under shocks: not charged; kept is only that it was asked",
                told_as_json(told),
                requestBody={"required": True, "content": {JSON: {"schema": asked}}},
            ),
        },
    }
