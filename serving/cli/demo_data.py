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
REGISTER_MONTHS = (0, 1)  # the zone as it was, and a month later
SINGLE_REQUESTS = 12  # households asked about one by one, as at the counter
CONSENTING_HOUSEHOLDS = 2  # of those, how many let their conduct count
GRANTOR = "Simulated County 虚构县"
DOCUMENT = "configs/examples/authorisation_simulated.txt"
REFERRAL = {"to": "demo/bank", "note": "Made up: please look at the debts. 虚构：请复核负债。"}

SendRequest = Callable[[str, bytes | None, str, str], bytes]  # address, body, media type, Idempotency-Key -> answer


def seed_demo_data(root: Path, send: SendRequest) -> Iterator[str]:
    """What is done next, step by step, in both languages. Raises SystemExit where a command fails."""
    folder = root / "var" / "demo"
    county = folder / "county.parquet"
    yield f"{HOUSEHOLDS} made-up households 虚构农户"
    if not county.exists():
        _run(root, "datasets", "simulate", "county", "--households", HOUSEHOLDS, "--seed", SEED, "--out", county)
    _run(root, "serving", "load-subjects", county)
    households = pl.read_parquet(county)
    ids = households["household_id"].to_list()
    _authorise(root, send, ids[:CONSENTING_HOUSEHOLDS])
    decisions = [
        orjson.loads(send("/v1/credit-limits", _subject_body(household), "application/json", f"demo-{household}"))
        for household in ids[:SINGLE_REQUESTS]
    ]
    referred = next(
        (decision["decision_id"] for decision in decisions if decision["decision"] == "refer"),
        decisions[0]["decision_id"],
    )
    send(f"/v1/decisions/{referred}/refer", orjson.dumps(REFERRAL), "application/json", "demo-refer")
    yield "their limits as one batch, and what became of them 批量授信与还款结果"
    _send_outcomes(send, households, _send_batch(send, "/v1/credit-limits", "household_id", ids, "demo-county"))
    for month in REGISTER_MONTHS:
        if month < _register_runs(send):
            continue  # of an earlier demo; a register older than the stored one is refused
        yield f"{COMPANIES:,} made-up companies, month {month + 1} of {len(REGISTER_MONTHS)} 虚构企业名录"
        zone = folder / f"zone_{month}"
        if not (zone / "companies.parquet").exists():
            options = "--companies", COMPANIES, "--seed", SEED, "--month", month
            _run(root, "datasets", "simulate", "register", *options, "--out", zone)
        _run(root, "serving", "import-register", zone)
        companies = pl.read_parquet(zone / "companies.parquet", columns=["company_id"])["company_id"].to_list()
        _send_batch(send, "/v1/scitech-risks", "company_id", companies, f"demo-zone-{month}")


def _authorise(root: Path, send: SendRequest, household_ids: list[str]) -> None:
    """The county's, for all; and a few households' own, so that their conduct may count."""
    grants = orjson.loads(send("/v1/authorisations", None, "", ""))["authorisations"]
    if any(grant["grantor"] == GRANTOR for grant in grants):
        return
    common_options = "--tenant", "demo", "--to", "2099-12-31", "--document", DOCUMENT, "--groups", "all"
    for purpose in ("credit_limit", "scitech_risk"):
        grant_options = "--kind", "government", "--grantor", GRANTOR, "--purpose", purpose
        _run(root, "serving", "grant", "create", *grant_options, *common_options)
    for household in household_ids:
        grant_options = "--kind", "personal", "--subject", household, "--purpose", "credit_limit"
        _run(root, "serving", "grant", "create", *grant_options, *common_options)


def _register_runs(send: SendRequest) -> int:
    """How often the zone was asked about."""
    response = send("/v1/decisions?product=scitech_risk&subject=C00000000&limit=200", None, "", "")
    return len({decision["decision_id"].partition("-")[0] for decision in orjson.loads(response)["decisions"]})


def _subject_body(subject: str) -> bytes:
    return orjson.dumps({"subject_id": subject})


def _send_batch(send: SendRequest, route: str, name: str, subjects: list[str], key: str) -> pl.DataFrame:
    """Stored subjects; their own names are copied beside the answers, which tell pseudonyms."""
    body = pl.DataFrame({"subject_id": subjects, name: subjects}).write_csv().encode()
    return pl.read_csv(send(f"{route}/batch?keep={name}", body, "text/csv", key), infer_schema_length=None)


def _send_outcomes(send: SendRequest, households: pl.DataFrame, decisions: pl.DataFrame) -> None:
    """Repaid or defaulted, as the simulator knows; of the day of the decisions, which a second demo finds again."""
    batch = decisions["decision_id"][0].partition("-")[0]
    day = orjson.loads(send(f"/v1/batches/{batch}", None, "", ""))["created"][:10]
    outcomes_table = decisions.join(households, on="household_id").filter(pl.col("error").is_null())
    outcomes = [
        {
            "decision_id": decision_id,
            "outcome": "defaulted" if defaulted else "repaid",
            "at": day,
            "source": "simulated 模拟",
        }
        for decision_id, defaulted in outcomes_table.select("decision_id", "default_12m").iter_rows()
    ]
    if outcomes:
        send("/v1/outcomes", orjson.dumps({"outcomes": outcomes}), "application/json", "demo-outcomes")


def _run(root: Path, module: str, *arguments: object) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    completed = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    if completed.returncode:
        message = f"python -m {module} {' '.join(map(str, arguments))} ended with status {completed.returncode}"
        raise SystemExit(f"{message}: {completed.stdout}{completed.stderr}")
