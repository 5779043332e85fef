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
from pathlib import Path
from typing import Any

from rich.console import Console

from datasets.confinement.process import kernel_support, set_required
from models.bundle import BundleError, read_alias
from serving import settings
from serving.cli import send_slide
from serving.cli.demo_data import seed_demo_data
from serving.cli.demo_outcomes import show_decision, show_outcome
from serving.cli.demo_slides import ABSTAINED, NEGATIVE, POSITIVE, Example
from serving.core.http.client import bypass_proxy, open_url
from serving.core.http.principal import ROLES
from serving.core.security.token_issuer import issue_token
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
PATHOLOGIST = {
    "name": "Demo Pathologist 演示病理医师",
    "licence": "DEMO-0001",
}  # nobody's: what it signs is a demonstration
STARTUP_TIMEOUT = 120  # seconds for the service to come up
console = Console()


def run(port: int, once: bool, details: bool = False) -> int:
    """Install the released models, serve, ask, retrain one live, and stay unless `once`. The exit status."""
    base = f"http://127.0.0.1:{port}"
    bypass_proxy(os.environ)  # for what is started here
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: else what it started outlives it
    clock = Clock()
    try:
        accept_kernel()
        install_models()
    except (BundleError, OSError) as error:
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
        bank_token, clinic_token = demo_token("bank"), demo_token("clinic")
        routes = {model["name"]: model["route"] for model in _get_json(f"{base}/v1/models", bank_token)["models"]}
        decisions = ask_examples(base, bank_token, routes, details, clock)
        if "pathology" in routes:
            read_slides(base, clinic_token, painter, (POSITIVE, ABSTAINED))
        if decisions:
            show_proof(base, bank_token, decisions[0])
        if RETRAINED in routes:
            retrain(base, bank_token, routes[RETRAINED])
        clock.print_mark("everything asked, retrained and swapped", "全部示例、重新训练与切换", ALL_WITHIN)
        fill_console(base, bank_token, routes)
        if "pathology" in routes:
            read_slides(base, clinic_token, painter, (NEGATIVE,))
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


def accept_kernel() -> None:
    """The demo decodes made-up files alone, so it also runs where the kernel cannot confine what decodes them."""
    if not (support := kernel_support()).is_complete:
        set_required(False)
        text = f"! This kernel has {support}: files are decoded less confined. 此内核隔离能力不足，解码进程的隔离较弱。"
        console.print(text, highlight=False)


def install_models() -> None:
    """Verify the models that ship and install those whose name has no champion. Raises BundleError."""
    paths = settings.load_settings().paths
    for model in released_models.install_from(paths):
        origin = "SIMULATED data 模拟数据" if model.simulated else "real data 真实数据"
        console.print(
            f"✓ {model.model} {model.version}: signature and {model.files} digests hold 签名与摘要验证通过 "
            f"({model.digest[:12]}…, trained on {origin})",
            highlight=False,
        )
    if not any(read_alias(folder) for folder in paths.bundles.glob("*") if folder.is_dir()):
        raise BundleError(
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
        answer = _post_json(base + routes[model], bank, body)
        decisions.append(answer["decision_id"])
        console.print(show_outcome(f"{en} {zh}", answer))
        if details:
            console.print(show_decision(name, answer))
        if len(decisions) == 1:
            clock.print_mark("the first decision", "首个决策", FIRST_WITHIN)
    return decisions


def read_slides(base: str, clinic: str, painter: subprocess.Popen[bytes], examples: tuple[Example, ...]) -> None:
    """Send the painted slides as a clinic does, and show what was read."""
    if painter.wait():
        raise SystemExit(f"python -m serving.cli.demo_slides ended with status {painter.returncode}")
    for example in examples:
        form = send_slide.DEMO_FORM | {"accession": f"DEMO-{time.strftime('%Y%m%d-%H%M%S')}-{Path(example.file).stem}"}
        slide = send_slide.send(base, SLIDES / example.file, clinic, form)
        console.print(f"{example.en} {example.zh} (made up 虚构)", style="bold")
        send_slide.show_reading(console, send_slide.follow(base, slide, clinic, console), "SIMULATED 模拟")
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
    var = settings.load_settings().paths.bundles.parent
    command = [sys.executable, "-m", "training", "credit_limit", "--config", config, "--var", str(var)]
    subprocess.run(command, cwd=ROOT, check=True)
    champion = read_alias(var / "bundles" / RETRAINED)
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
    answer = _post_json(base + route, bank, (EXAMPLES / "cardholder.json").read_bytes())
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
            for step in seed_demo_data(ROOT, lambda *request: _send(base, bank, *request)):
                status.update(f"{step} ...")


def _version(base: str, bank: str) -> str:
    """Which version of the model that is retrained serves now."""
    models = _get_json(f"{base}/v1/models", bank)["models"]
    return next(str(model["version"]) for model in models if model["name"] == RETRAINED)


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
            with open_url(f"{base}/healthz/ready", timeout=5):
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
    with open_url(request, timeout=30) as response:
        content: bytes = response.read()
        return content


def _send(base: str, token: str, path: str, body: bytes | None, media_type: str, key: str) -> bytes:
    headers = {"Authorization": f"Bearer {token}"}
    headers |= {} if body is None else {"Content-Type": media_type, "Idempotency-Key": key}
    try:
        with open_url(urllib.request.Request(base + path, body, headers), timeout=600) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{base}{path} answered {error.code}: {error.read().decode()}") from error


def _post_json(url: str, token: str, body: bytes) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, body, headers)
    try:
        with open_url(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url} answered {error.code}: {error.read().decode()}") from error
