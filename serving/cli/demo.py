"""What a newcomer sees: the released models verified and served, each example answered as a person would read it, and
the model of the real table trained anew and swapped in while the service answers."""

from __future__ import annotations

import json
import os
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

from models.bundle import BundleRefused, pointed
from serving import settings
from serving.cli import send_slide
from serving.cli.demo_data import fill
from serving.cli.demo_outcomes import show_outcome
from serving.cli.demo_slides import ABSTAINED, NEGATIVE, POSITIVE, Example
from serving.core.http.client import bypass_proxy, open_url
from serving.core.http.principal import ROLES
from serving.core.security.token_issuer import issue
from serving.registry import released_models

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "configs" / "examples"
SLIDES = ROOT / "var" / "slides_demo"
EXAMPLE_TITLES = {  # file of configs/examples -> what it shows, in the order in which they are asked
    "household_good_conduct": ("a household whose conduct lifts its limit", "品行提高额度的农户"),
    "household_without_tax_record": ("the same household without a tax record", "没有纳税记录的同一农户"),
    "company": ("a technology company that is approved", "获批的科创企业"),
    "company_shell": ("a shell company, with the evidence", "空壳企业及其证据"),
    "cardholder": ("a cardholder, by a model of real data", "真实数据模型评估的持卡人"),
}
RETRAINED = "credit_limit_taiwan"
STARTED = "YUHENG_DEMO_STARTED"  # of the environment: when make began, in seconds since 1970
FIRST_WITHIN, ALL_WITHIN = 120, 240  # seconds on two cores with an empty cache
SWAP_WITHIN = 30  # seconds
VERDICTS = {"pass": "pass 通过", "review": "review 复核", "block": "block 拦截"}
SIGNER = {"name": "Demo Pathologist 演示病理医师", "licence": "DEMO-0001"}  # nobody's: what it signs is a demonstration
PATIENCE = 120  # seconds for the service to come up
console = Console()


def run(port: int, once: bool, details: bool = False) -> int:
    """Install the released models, serve, ask, retrain one live, and stay unless `once`. The exit status."""
    base = f"http://127.0.0.1:{port}"
    bypass_proxy(os.environ)  # for what is started here
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: else what it started outlives it
    clock = Clock()
    try:
        install_models()
    except (BundleRefused, OSError) as error:
        console.print(str(error), style="red", highlight=False, soft_wrap=True)
        return 1
    python = [sys.executable, "-m"]
    service = subprocess.Popen([*python, "serving", "serve", "--port", str(port)], cwd=ROOT)
    children = [service]
    try:
        with console.status("starting the service"):
            _await_ready(base, service)
        children.append(subprocess.Popen([*python, "serving", "serve-slides", "--port", str(port + 100)], cwd=ROOT))
        painter = subprocess.Popen([*python, "serving.cli.demo_slides", str(SLIDES)], cwd=ROOT)
        children.append(painter)
        bank, clinic = token_of("bank"), token_of("clinic")
        routes = {model["name"]: model["route"] for model in _get(f"{base}/v1/models", bank)["models"]}
        decisions = ask_examples(base, bank, routes, details, clock)
        if "pathology" in routes:
            read_slides(base, clinic, painter, (POSITIVE, ABSTAINED))
        if decisions:
            prove(base, bank, decisions[0])
        if RETRAINED in routes:
            retrain(base, bank, routes[RETRAINED])
        clock.print_mark("everything asked, retrained and swapped", "全部示例、重新训练与切换", ALL_WITHIN)
        fill_console(base, bank, routes)
        if "pathology" in routes:
            read_slides(base, clinic, painter, (NEGATIVE,))
        links(base)
        if once:
            return 0
        console.print(
            f"Serving on {base} until Ctrl-C. Try the curl examples of the README; the API: {base}/openapi.json"
        )
        return service.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for process in children:
            process.terminate()
        for process in children:
            process.wait(timeout=30)


class Clock:
    """Seconds since the command was given: by make, where it says when it began, else by hand."""

    def __init__(self) -> None:
        self.started = float(os.environ.get(STARTED) or time.time())

    def print_mark(self, en: str, zh: str, within: int) -> None:
        seconds = time.time() - self.started
        console.print(f"⏱ {en} {zh}: {seconds:.0f} s (aim 目标 {within} s)\n", style="bold", highlight=False)


def install_models() -> None:
    """Verify the models that ship and install those whose name has no champion. Raises BundleRefused."""
    paths = settings.read().paths
    for model in released_models.install_from(paths):
        origin = "SIMULATED data 模拟数据" if model.simulated else "real data 真实数据"
        console.print(
            f"✓ {model.model} {model.version}: signature and {model.files} digests hold 签名与摘要验证通过 "
            f"({model.digest[:12]}…, trained on {origin})",
            highlight=False,
        )
    if not any(pointed(folder) for folder in paths.bundles.glob("*") if folder.is_dir()):
        raise BundleRefused(
            f"{paths.bundles} holds no champion and models/released no bundle. Train them: make train\n"
            f"{paths.bundles} 中没有可用模型，models/released 中也没有发布的模型。请运行 make train 训练。"
        )


def ask_examples(base: str, bank: str, routes: dict[str, str], details: bool, clock: Clock) -> list[str]:
    """Ask each of EXAMPLE_TITLES whose model serves, and show the outcome. The decisions' ids."""
    decisions: list[str] = []
    for name, (en, zh) in EXAMPLE_TITLES.items():
        body = (EXAMPLES / f"{name}.json").read_bytes()
        model = json.loads(body)["model"]
        if model not in routes:
            console.print(f"{name} is not asked: no bundle of {model} is published under var/bundles.\n")
            continue
        answer = _post(base + routes[model], bank, body)
        decisions.append(answer["decision_id"])
        console.print(show_outcome(f"{en} {zh}", answer))
        if details:
            show(name, answer)
        if len(decisions) == 1:
            clock.print_mark("the first decision", "首个决策", FIRST_WITHIN)
    return decisions


def read_slides(base: str, clinic: str, painter: subprocess.Popen[bytes], examples: tuple[Example, ...]) -> None:
    """Send the painted slides as a clinic does, and show what was read."""
    if painter.wait():
        raise SystemExit(f"python -m serving.cli.demo_slides ended with status {painter.returncode}")
    for example in examples:
        form = send_slide.FORM | {"accession": f"DEMO-{time.strftime('%Y%m%d-%H%M%S')}-{Path(example.file).stem}"}
        slide = send_slide.send(base, SLIDES / example.file, clinic, form)
        console.print(f"{example.en} {example.zh} (made up 虚构)", style="bold")
        send_slide.show(console, send_slide.follow(base, slide, clinic, console), "SIMULATED 模拟")
        console.print(f"  Look at it 查看: {base}/console/slides/{slide}\n", soft_wrap=True)


def retrain(base: str, bank: str, route: str) -> None:
    """Train the model of the real table anew, and show that the service answers with the new version at once."""
    before = _version(base, bank)
    console.print(
        f"{RETRAINED} is trained anew on 30,000 real cardholders, judged, and passes the gate or does not "
        "用真实数据重新训练、评估并通过上线门槛:",
        style="bold",
    )
    config = f"configs/{RETRAINED}.toml"
    var = settings.read().paths.bundles.parent
    command = [sys.executable, "-m", "training", "credit_limit", "--config", config, "--var", str(var)]
    subprocess.run(command, cwd=ROOT, check=True)
    champion = pointed(var / "bundles" / RETRAINED)
    if champion == before:
        console.print(
            f"Only a version that the gate finds better takes over; {before} serves on. "
            f"仅优于在线版本者上线，{before} 继续服务。\n"
        )
        return
    for _ in range(SWAP_WITHIN):
        if (now := _version(base, bank)) == champion:
            break
        time.sleep(1)
    answer = _post(base + route, bank, (EXAMPLES / "cardholder.json").read_bytes())
    answered = answer["model"]["version"]
    if answered != champion:
        raise SystemExit(f"{RETRAINED} {champion} is the champion and {now} answers after {SWAP_WITHIN} s.")
    console.print(
        f"✓ Swapped while serving 在线切换: {before} → {answered}, which answers the same cardholder: "
        f"PD {answer['pd']:.2%} 新版本已应答\n",
        style="bold green",
        highlight=False,
    )


def fill_console(base: str, bank: str, routes: dict[str, str]) -> None:
    """The console's made-up county and zone."""
    if {"credit_limit", "scitech_risk"} <= set(routes):
        with console.status("the console's made-up county and zone 控制台示例数据") as status:
            for step in fill(ROOT, lambda *asked: _send(base, bank, *asked)):
                status.update(f"{step} ...")


def _version(base: str, bank: str) -> str:
    """Which version of the model that is retrained serves now."""
    models = _get(f"{base}/v1/models", bank)["models"]
    return next(str(model["version"]) for model in models if model["name"] == RETRAINED)


def prove(base: str, token: str, decision: str) -> None:
    """What a decision was made from, and that it is genuine: by the commands that anybody may run."""
    receipt, answer = (ROOT / "var" / "receipts" / f"{decision}{name}" for name in (".json", ".answer.json"))
    receipt.parent.mkdir(parents=True, exist_ok=True)
    answer.write_bytes(_fetch(f"{base}/v1/decisions/{decision}", token))
    receipt.write_bytes(_fetch(f"{base}/v1/decisions/{decision}/receipt", token))
    for told in (
        ["trace", decision],
        ["receipt", "verify", str(receipt.relative_to(ROOT)), "--answer", str(answer.relative_to(ROOT))],
    ):
        console.print(f"python -m serving {' '.join(told)}", style="bold", soft_wrap=True, highlight=False)
        if status := subprocess.run([sys.executable, "-m", "serving", *told], cwd=ROOT, check=False).returncode:
            raise SystemExit(f"python -m serving {' '.join(told)} ended with status {status}")
        console.print()


def _await_ready(base: str, service: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    while True:
        if service.poll() is not None:
            raise SystemExit(f"The service ended with status {service.returncode}. Is the port taken? Try --port 3001.")
        try:
            with open_url(f"{base}/healthz/ready", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() - began > PATIENCE:
                told = error.read().decode() if isinstance(error, urllib.error.HTTPError) else str(error)
                raise SystemExit(f"The service was not ready in {PATIENCE} s: {told}") from error
        time.sleep(0.3)


def links(base: str) -> None:
    """The console, with a link for each role that signs in: the token stands behind #, which no browser sends."""
    console.print(f"The console 控制台: {base}/console", style="bold", highlight=False)
    for role, (en, zh) in ROLES.items():
        console.print(f"  {role}: {en} {zh}", highlight=False)
        console.print(f"{base}/console#token={token_of(role)}", soft_wrap=True, highlight=False, style="cyan")


def token_of(role: str) -> str:
    """As python -m serving token --tenant demo --role ROLE prints it."""
    found = settings.read()
    person: dict[str, Any] = SIGNER if role == "pathologist" else {}
    who = f"demo/{role}"
    return issue(found.paths.tokens, found.access.audience, tenant="demo", roles=[role], who=who, **person)


def _get(url: str, token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_fetch(url, token))
    return found


def _fetch(url: str, token: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with open_url(request, timeout=30) as response:
        found: bytes = response.read()
        return found


def _send(base: str, token: str, address: str, body: bytes | None, media_type: str, key: str) -> bytes:
    headers = {"Authorization": f"Bearer {token}"}
    headers |= {} if body is None else {"Content-Type": media_type, "Idempotency-Key": key}
    try:
        with open_url(urllib.request.Request(base + address, body, headers), timeout=600) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{base}{address} answered {error.code}: {error.read().decode()}") from error


def _post(url: str, token: str, body: bytes) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, body, headers)
    try:
        with open_url(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url} answered {error.code}: {error.read().decode()}") from error


def show(name: str, answer: dict[str, Any]) -> None:
    """One answer: the decision, then those of PARTS that it has."""
    money = answer["currency"]
    limit = answer["limit"] if answer["limit"] is not None else answer["indicative_limit"]
    word = "limit 授信额度" if answer["limit"] is not None else "indicative limit, for the person who decides 参考额度"
    head = Text.assemble(
        ("approve 通过" if answer["decision"] == "approve" else "refer to a person 转人工", "bold"),
        f"   {word}: {money} {limit:,}   PD {answer['pd']:.2%}   score {answer['score']:.0f} "
        f"(line {answer['approval_line']:.0f})   grade {answer['grade'] or 'none 未评级'}",
    )
    parts: list[Any] = [head, *(Text(f"  {why['en']} {why['zh']}", style="yellow") for why in answer["referral"])]
    for part, shown in PARTS.items():
        if answer.get(part):
            parts += [Text(), shown(answer[part])]
    simulated = "trained on SIMULATED data 模拟数据训练" if answer["simulated"] else "trained on real data 真实数据训练"
    foot = f"{answer['model']['name']} {answer['model']['version']} · {simulated} · decision {answer['decision_id']}"
    console.print(
        Panel(
            Group(*parts),
            title=f"{name} (a made-up applicant 虚构的申请人)",
            subtitle=foot,
            title_align="left",
            subtitle_align="left",
        )
    )


def _gate(gate: dict[str, Any]) -> Table:
    table = _table("shell gate 空壳闸门", VERDICTS[gate["verdict"]])
    table.add_row("  " + gate["en"], gate["zh"])
    for piece in gate["evidence"]:
        table.add_row(f"▸ {piece['points']:g}  {piece['en']}", piece["zh"])
    return table


def _innovation(innovation: dict[str, Any]) -> Table:
    table = _table("innovation 科创评分", "")
    table.add_row("  " + innovation["en"], innovation["zh"])
    for part in innovation["parts"]:
        weight = "" if part["weight"] is None else f" × {part['weight']:.2f}"
        bar = Bar(100, 0, part["score"] or 0, width=30, color="cyan")
        table.add_row(f"  {part['en']}{weight}", bar)
    return table


def _warnings(warnings: list[dict[str, Any]]) -> Table:
    table = _table("early warnings 预警", "")
    for one in warnings:
        table.add_row(("▸ " if one["severity"] == "act" else "  ") + one["en"], one["zh"])
    return table


def _table(*heads: str) -> Table:
    return Table(*heads, box=None, pad_edge=False, header_style="bold")


def _ledger(ledger: dict[str, Any]) -> Table:
    table = _table("ledger 额度台账", "")
    for bound in ledger["bounds"]:
        table.add_row(("▸ " if bound["binding"] else "  ") + bound["en"], bound["zh"])
    if "conduct" in ledger:
        table.add_row("  " + ledger["conduct"]["en"], ledger["conduct"]["zh"])
    for cap in ledger["caps"]:
        if cap["applied"]:
            table.add_row("▸ " + cap["en"], cap["zh"])
    table.add_row("  " + ledger["rounding"]["en"], ledger["rounding"]["zh"])
    return table


def _reasons(reasons: list[dict[str, Any]]) -> Table:
    table = _table("reasons 原因", "points 分", "")
    most = max((abs(reason["points"]) for reason in reasons), default=1.0) or 1.0
    for reason in reasons:
        points = reason["points"]
        half = 15 * abs(points) / most
        bar = (
            Bar(30, 15, 15 + half, width=30, color="green")
            if points > 0
            else Bar(30, 15 - half, 15, width=30, color="red")
        )
        table.add_row(reason["en"], f"{points:+.1f}", bar)
    return table


def _raises(raises: list[dict[str, Any]]) -> Group:
    told = [Text(f"  {one['en']} {one['zh']}") for one in raises]
    return Group(Text("What would raise it 提额途径", style="bold"), *told)


# Of an answer, whichever product's, in the order in which they are read.
PARTS: dict[str, Callable[[Any], RenderableType]] = {
    "gate": _gate,
    "innovation": _innovation,
    "warnings": _warnings,
    "ledger": _ledger,
    "reasons": _reasons,
    "raises": _raises,
}
