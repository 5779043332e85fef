"""What the demo leaves to look at in the console. SIMULATED: a county and a technology zone of which nobody exists.

They are loaded, authorised and asked about as a bank would, by the commands and routes of the README. Each request has
its Idempotency-Key, so a second demo on the same store adds nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import polars as pl

HOUSEHOLDS, COMPANIES, SEED = 400, 2_000, 7
MONTHS = (0, 1)  # the zone as it was, and a month later
ASKED = 12  # households asked about one by one, as at the counter
CONSENTING = 2  # of those, how many let their conduct count
GRANTOR = "Simulated County 虚构县"
DOCUMENT = "configs/examples/authorisation_simulated.txt"
WAITS = {"to": "demo/bank", "note": "Made up: please look at the debts. 虚构：请复核负债。"}

Ask = Callable[[str, bytes | None, str, str], bytes]  # address, body, media type, Idempotency-Key -> answer


def fill(root: Path, ask: Ask) -> Iterator[str]:
    """What is done next, step by step, in both languages. Raises SystemExit where a command fails."""
    folder = root / "var" / "demo"
    county = folder / "county.parquet"
    yield f"{HOUSEHOLDS} made-up households 虚构农户"
    if not county.exists():
        _run(
            root, "datasets.credit_limit.county.simulator", "--households", HOUSEHOLDS, "--seed", SEED, "--out", county
        )
    _run(root, "serving", "load-subjects", county)
    households = pl.read_parquet(county)
    ids = households["household_id"].to_list()
    _authorise(root, ask, ids[:CONSENTING])
    answers = [
        orjson.loads(ask("/v1/credit-limits", _about(one), "application/json", f"demo-{one}")) for one in ids[:ASKED]
    ]
    person = next((one["decision_id"] for one in answers if one["decision"] == "refer"), answers[0]["decision_id"])
    ask(f"/v1/decisions/{person}/refer", orjson.dumps(WAITS), "application/json", "demo-refer")
    yield "their limits as one batch, and what became of them 批量授信与还款结果"
    _outcomes(ask, households, _batch(ask, "/v1/credit-limits", "household_id", ids, "demo-county"))
    for month in MONTHS:
        if month < _runs(ask):
            continue  # of an earlier demo; a register older than the stored one is refused
        yield f"{COMPANIES:,} made-up companies, month {month + 1} of {len(MONTHS)} 虚构企业名录"
        zone = folder / f"zone_{month}"
        if not (zone / "companies.parquet").exists():
            which = "--companies", COMPANIES, "--seed", SEED, "--month", month
            _run(root, "datasets.scitech_risk.register.simulator", *which, "--out", zone)
        _run(root, "serving", "load-register", zone)
        companies = pl.read_parquet(zone / "companies.parquet", columns=["company_id"])["company_id"].to_list()
        _batch(ask, "/v1/scitech-risks", "company_id", companies, f"demo-zone-{month}")


def _authorise(root: Path, ask: Ask, consenting: list[str]) -> None:
    """The county's, for all; and a few households' own, so that their conduct may count."""
    held = orjson.loads(ask("/v1/authorisations", None, "", ""))["authorisations"]
    if any(one["grantor"] == GRANTOR for one in held):
        return
    common = "--tenant", "demo", "--to", "2099-12-31", "--document", DOCUMENT, "--groups", "all"
    for purpose in ("credit_limit", "scitech_risk"):
        whose = "--kind", "government", "--grantor", GRANTOR, "--purpose", purpose
        _run(root, "serving", "grant", "create", *whose, *common)
    for one in consenting:
        whose = "--kind", "personal", "--subject", one, "--purpose", "credit_limit"
        _run(root, "serving", "grant", "create", *whose, *common)


def _runs(ask: Ask) -> int:
    """How often the zone was asked about."""
    told = ask("/v1/decisions?product=scitech_risk&subject=C00000000&limit=200", None, "", "")
    return len({one["decision_id"].partition("-")[0] for one in orjson.loads(told)["decisions"]})


def _about(subject: str) -> bytes:
    return orjson.dumps({"subject_id": subject})


def _batch(ask: Ask, route: str, name: str, subjects: list[str], key: str) -> pl.DataFrame:
    """Stored subjects; their own names are copied beside the answers, which tell pseudonyms."""
    body = pl.DataFrame({"subject_id": subjects, name: subjects}).write_csv().encode()
    return pl.read_csv(ask(f"{route}/batch?keep={name}", body, "text/csv", key), infer_schema_length=None)


def _outcomes(ask: Ask, households: pl.DataFrame, answered: pl.DataFrame) -> None:
    """Repaid or defaulted, as the simulator knows; of the day of the decisions, which a second demo finds again."""
    batch = answered["decision_id"][0].partition("-")[0]
    day = orjson.loads(ask(f"/v1/batches/{batch}", None, "", ""))["created"][:10]
    told = answered.join(households, on="household_id").filter(pl.col("error").is_null())
    many = [
        {"decision_id": id, "outcome": "defaulted" if bad else "repaid", "at": day, "source": "simulated 模拟"}
        for id, bad in told.select("decision_id", "default_12m").iter_rows()
    ]
    if many:
        ask("/v1/outcomes", orjson.dumps({"outcomes": many}), "application/json", "demo-outcomes")


def _run(root: Path, module: str, *more: object) -> None:
    command = [sys.executable, "-m", module, *map(str, more)]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        told = f"python -m {module} {' '.join(map(str, more))} ended with status {done.returncode}"
        raise SystemExit(f"{told}: {done.stdout}{done.stderr}")
