"""What a newcomer sees: the service up, each example asked, the answer as a person would read it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from serving import settings
from serving.cli import send_slide
from serving.cli.demo_data import seed_demo_data
from serving.core.http.principal import ROLES
from serving.core.security.token_issuer import issue_token

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "configs" / "examples"
VERDICT_LABELS = {"pass": "pass 通过", "review": "review 复核", "block": "block 拦截"}
PATHOLOGIST = {
    "name": "Demo Pathologist 演示病理医师",
    "licence": "DEMO-0001",
}  # nobody's: what it signs is a demonstration
STARTUP_TIMEOUT = 120  # seconds for the service to come up
console = Console()


def run(port: int, once: bool) -> int:
    """Serve on `port`, ask each example, and stay until interrupted or ended unless `once`. The exit status."""
    base = f"http://127.0.0.1:{port}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: else what it started outlives it
    service = subprocess.Popen([sys.executable, "-m", "serving", "serve", "--port", str(port)])
    reader = subprocess.Popen([sys.executable, "-m", "serving", "serve-slides", "--port", str(port + 100)])
    try:
        with console.status("starting the service"):
            _await_ready(base, service)
        bank_token, clinic_token = demo_token("bank"), demo_token("clinic")
        routes = {model["name"]: model["route"] for model in _get_json(f"{base}/v1/models", bank_token)["models"]}
        decisions: list[str] = []
        for example in sorted(EXAMPLES.glob("*.json"), reverse=True):
            body = example.read_bytes()
            model = json.loads(body)["model"]
            if model in routes:
                answer = _post_json(base + routes[model], bank_token, body)
                show_decision(example.stem, answer)
                decisions.append(answer["decision_id"])
            else:
                console.print(f"{example.name} is not asked: no bundle of {model} is published under var/bundles.\n")
        if decisions:
            show_proof(base, bank_token, decisions[0])
        if {"credit_limit", "scitech_risk"} <= set(routes):
            with console.status("the console's made-up county and zone 控制台示例数据") as status:
                for step in seed_demo_data(ROOT, lambda *asked: _send(base, bank_token, *asked)):
                    status.update(f"{step} ...")
        if "pathology" in routes:
            send_slide.run(base, ROOT / "var" / "slides_demo", clinic_token, console)
        else:
            console.print("No slide is read: no bundle of pathology is published under var/bundles.\n")
        print_links(base)
        if once:
            return 0
        console.print(
            f"Serving on {base} until Ctrl-C. Try the curl examples of the README; the API: {base}/openapi.json"
        )
        return service.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for process in (service, reader):
            process.terminate()
        for process in (service, reader):
            process.wait(timeout=30)


def show_proof(base: str, token: str, decision: str) -> None:
    """What a decision was made from, and that it is genuine: by the commands that anybody may run."""
    receipt, answer = (ROOT / "var" / "receipts" / f"{decision}{name}" for name in (".json", ".answer.json"))
    receipt.parent.mkdir(parents=True, exist_ok=True)
    answer.write_bytes(_fetch(f"{base}/v1/decisions/{decision}", token))
    receipt.write_bytes(_fetch(f"{base}/v1/decisions/{decision}/receipt", token))
    for arguments in (
        ["trace", decision],
        ["receipt", "verify", str(receipt.relative_to(ROOT)), "--answer", str(answer.relative_to(ROOT))],
    ):
        console.print(f"python -m serving {' '.join(arguments)}", style="bold", soft_wrap=True, highlight=False)
        if status := subprocess.run([sys.executable, "-m", "serving", *arguments], cwd=ROOT, check=False).returncode:
            raise SystemExit(f"python -m serving {' '.join(arguments)} ended with status {status}")
        console.print()


def _await_ready(base: str, service: subprocess.Popen[bytes]) -> None:
    start = time.monotonic()
    while True:
        if service.poll() is not None:
            raise SystemExit(f"The service ended with status {service.returncode}. Is the port taken? Try --port 3001.")
        try:
            with urllib.request.urlopen(f"{base}/healthz/ready", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() - start > STARTUP_TIMEOUT:
                detail = error.read().decode() if isinstance(error, urllib.error.HTTPError) else str(error)
                raise SystemExit(f"The service was not ready in {STARTUP_TIMEOUT} s: {detail}") from error
        time.sleep(0.3)


def print_links(base: str) -> None:
    """The console, with a link for each role that signs in: the token stands behind #, which no browser sends."""
    console.print(f"The console 控制台: {base}/console", style="bold", highlight=False)
    for role, (en, zh) in ROLES.items():
        console.print(f"  {role}: {en} {zh}", highlight=False)
        console.print(f"{base}/console#token={demo_token(role)}", soft_wrap=True, highlight=False, style="cyan")


def demo_token(role: str) -> str:
    """As python -m serving token --tenant demo --role ROLE prints it."""
    config = settings.load_settings()
    identity: dict[str, Any] = PATHOLOGIST if role == "pathologist" else {}
    subject = f"demo/{role}"
    return issue_token(
        config.paths.tokens, config.access.audience, tenant="demo", roles=[role], subject=subject, **identity
    )


def _get_json(url: str, token: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(_fetch(url, token))
    return payload


def _fetch(url: str, token: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        content: bytes = response.read()
        return content


def _send(base: str, token: str, path: str, body: bytes | None, media_type: str, key: str) -> bytes:
    headers = {"Authorization": f"Bearer {token}"}
    headers |= {} if body is None else {"Content-Type": media_type, "Idempotency-Key": key}
    try:
        with urllib.request.urlopen(urllib.request.Request(base + path, body, headers), timeout=600) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{base}{path} answered {error.code}: {error.read().decode()}") from error


def _post_json(url: str, token: str, body: bytes) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url} answered {error.code}: {error.read().decode()}") from error


def show_decision(name: str, answer: dict[str, Any]) -> None:
    """One answer: the decision, then those of PARTS that it has."""
    currency = answer["currency"]
    limit = answer["limit"] if answer["limit"] is not None else answer["indicative_limit"]
    limit_label = (
        "limit 授信额度" if answer["limit"] is not None else "indicative limit, for the person who decides 参考额度"
    )
    headline = Text.assemble(
        ("approve 通过" if answer["decision"] == "approve" else "refer to a person 转人工", "bold"),
        f"   {limit_label}: {currency} {limit:,}   PD {answer['pd']:.2%}   score {answer['score']:.0f} "
        f"(line {answer['approval_line']:.0f})   grade {answer['grade'] or 'none 未评级'}",
    )
    sections: list[Any] = [
        headline,
        *(Text(f"  {why['en']} {why['zh']}", style="yellow") for why in answer["referral"]),
    ]
    for field, render in SECTIONS.items():
        if answer.get(field):
            sections += [Text(), render(answer[field])]
    simulated = "trained on SIMULATED data 模拟数据训练" if answer["simulated"] else "trained on real data 真实数据训练"
    subtitle = (
        f"{answer['model']['name']} {answer['model']['version']} · {simulated} · decision {answer['decision_id']}"
    )
    console.print(
        Panel(
            Group(*sections),
            title=f"{name} (a made-up applicant 虚构的申请人)",
            subtitle=subtitle,
            title_align="left",
            subtitle_align="left",
        )
    )


def _gate_table(gate: dict[str, Any]) -> Table:
    table = _new_table("shell gate 空壳闸门", VERDICT_LABELS[gate["verdict"]])
    table.add_row("  " + gate["en"], gate["zh"])
    for evidence in gate["evidence"]:
        table.add_row(f"▸ {evidence['points']:g}  {evidence['en']}", evidence["zh"])
    return table


def _innovation_table(innovation: dict[str, Any]) -> Table:
    table = _new_table("innovation 科创评分", "")
    table.add_row("  " + innovation["en"], innovation["zh"])
    for component in innovation["parts"]:
        weight = "" if component["weight"] is None else f" × {component['weight']:.2f}"
        bar = Bar(100, 0, component["score"] or 0, width=30, color="cyan")
        table.add_row(f"  {component['en']}{weight}", bar)
    return table


def _warnings_table(warnings: list[dict[str, Any]]) -> Table:
    table = _new_table("early warnings 预警", "")
    for warning in warnings:
        table.add_row(("▸ " if warning["severity"] == "act" else "  ") + warning["en"], warning["zh"])
    return table


def _new_table(*headers: str) -> Table:
    return Table(*headers, box=None, pad_edge=False, header_style="bold")


def _ledger_table(ledger: dict[str, Any]) -> Table:
    table = _new_table("ledger 额度台账", "")
    for bound in ledger["bounds"]:
        table.add_row(("▸ " if bound["binding"] else "  ") + bound["en"], bound["zh"])
    if "conduct" in ledger:
        table.add_row("  " + ledger["conduct"]["en"], ledger["conduct"]["zh"])
    for cap in ledger["caps"]:
        if cap["applied"]:
            table.add_row("▸ " + cap["en"], cap["zh"])
    table.add_row("  " + ledger["rounding"]["en"], ledger["rounding"]["zh"])
    return table


def _reasons_table(reasons: list[dict[str, Any]]) -> Table:
    table = _new_table("reasons 原因", "points 分", "")
    max_points = max((abs(reason["points"]) for reason in reasons), default=1.0) or 1.0
    for reason in reasons:
        points = reason["points"]
        width = 15 * abs(points) / max_points
        bar = (
            Bar(30, 15, 15 + width, width=30, color="green")
            if points > 0
            else Bar(30, 15 - width, 15, width=30, color="red")
        )
        table.add_row(reason["en"], f"{points:+.1f}", bar)
    return table


def _improvements(improvements: list[dict[str, Any]]) -> Group:
    lines = [Text(f"  {improvement['en']} {improvement['zh']}") for improvement in improvements]
    return Group(Text("What would raise it 提额途径", style="bold"), *lines)


# Of an answer, whichever product's, in the order in which they are read.
SECTIONS: dict[str, Callable[[Any], RenderableType]] = {
    "gate": _gate_table,
    "innovation": _innovation_table,
    "warnings": _warnings_table,
    "ledger": _ledger_table,
    "reasons": _reasons_table,
    "raises": _improvements,
}
