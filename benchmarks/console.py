"""The console in a real browser, beside a page that is nothing but HTML.

    python -m benchmarks.console [--companies 100000]

Prints what a first page weighs and when it is there (200 KB and 1 s are asked), how long a what-if takes from the key
to the figure (150 ms at the 95th percentile is asked), and how a table of 100,000 companies opens, sorts and scrolls.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.serving import QUIET, ROOT, build, build_companies, var

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ROLES = ("bank", "clinic", "pathologist", "scientist", "auditor", "operator")
PERSON = {"name": "Benchmark", "licence": "BENCH-0001"}
TIMES = 7
BARE = "<!doctype html><title>bare</title><link rel=icon href=data:,><header><nav><a href=#>A page</a></nav></header>"
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((each) => !each.name.endsWith(".ttf")).reduce((sum, each) => sum + each.encodedBodySize, 0)"""
# From the key to the figure on the page, pause and all (it may stay the same figure); and what of it the answer took.
TYPED = """async () => {
  const field = document.querySelector("[name=monthly_debt_service]"), shown = document.querySelector(".preview");
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set, found = [];
  for (let at = 0; at < 120; at += 1) {
    const began = performance.now();
    const told = new Promise((done, broken) => {
      const late = setTimeout(() => broken(new Error(`no figure for key ${at} within 10 s`)), 10_000);
      const eye = new MutationObserver(() => {
        if (shown.querySelector("[aria-busy=true]")) return;
        eye.disconnect();
        clearTimeout(late);
        done(performance.now() - began);
      });
      eye.observe(shown, { subtree: true, attributeFilter: ["aria-busy"] });
    });
    set.call(field, String(501 + 37 * at));
    field.dispatchEvent(new Event("input", { bubbles: true }));
    found.push(await told);
    await new Promise((done) => setTimeout(done, 60));
  }
  const asked = performance.getEntriesByType("resource").filter((each) => each.name.endsWith("/what-if"));
  return [found, asked.map((each) => each.duration)];
}"""
SCROLLED = """async () => {
  const body = document.querySelector(".long-body"), frames = [];
  let before = await new Promise(requestAnimationFrame);
  for (let at = 0; at < 240; at += 1) {
    body.scrollTop += 14_000;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - before);
    before = now;
  }
  return [frames, body.scrollTop, document.querySelectorAll(".long-row").length];
}"""
SORTED = """async () => {
  const began = performance.now();
  document.querySelectorAll(".long-head button")[2].click();
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--companies", type=int, default=100_000)
    companies = parser.parse_args().companies
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(dir=var()) as name, sync_playwright() as play:
        folder = Path(name)
        build(folder)
        build_companies(folder)
        service, base = start(folder)
        try:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for role in ROLES:
                first_page(browser, base, token(folder, role), role)
            what_if(browser, base, token(folder, "bank"))
            table(browser, base, token(folder, "bank"), companies)
            browser.close()
        finally:
            os.killpg(service.pid, signal.SIGTERM)
            service.wait()


def start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    from socket import socket

    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environ = {
        **os.environ,
        **QUIET,
        "YUHENG_HOME": str(folder),
        "YUHENG_BUNDLES": str(folder / "bundles"),
        "YUHENG_PUBLIC_KEY": str(folder / "keys/signing.pub.pem"),
        "YUHENG_TOKENS": str(folder / "keys/tokens.pem"),
    }
    with (folder / "service.log").open("wb") as log:
        command = [sys.executable, "-m", "serving", "serve", "--port", str(port)]
        service = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True)
    base, until = f"http://127.0.0.1:{port}", time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{base}/healthz/ready", timeout=2).close()
            return service, base
        except OSError as error:  # not there yet
            if time.monotonic() > until:
                raise SystemExit((folder / "service.log").read_text(encoding="utf-8")) from error
            time.sleep(0.3)


def token(folder: Path, role: str) -> str:
    from serving.core.security.token_issuer import issue

    person: dict[str, Any] = PERSON if role == "pathologist" else {}
    return issue(folder / "keys/tokens.pem", "yuheng", tenant="bench", roles=[role], who=f"bench/{role}", **person)


def first_page(browser: Any, base: str, given: str, role: str) -> None:
    """Each time in a browser that has seen nothing, and beside it a bare page."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "index.html").write_text(BARE, encoding="utf-8")
        quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        bare = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=name))
        threading.Thread(target=bare.serve_forever, daemon=True).start()
        ours, other, weight = [], [], 0
        for _ in range(TIMES):
            took, weight = opened(browser, f"{base}/console#token={given}", ".session")
            ours.append(took)
            other.append(opened(browser, f"http://127.0.0.1:{bare.server_port}/", "nav a")[0])
        bare.shutdown()
    mine, beside = statistics.median(ours), statistics.median(other)
    print(
        f"first page, {role}: {weight / 1_000:.0f} kB (under 200 is asked), there after {1_000 * mine:.0f} ms "
        f"(1,000 is asked); {mine / beside:.1f} times a bare page"
    )


def opened(browser: Any, address: str, there: str) -> tuple[float, int]:
    """(seconds until it is there, bytes without a Chinese font, which only a machine without one is sent)."""
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(there)
    took = time.perf_counter() - began
    page.wait_for_load_state("networkidle")
    weight = int(page.evaluate(WEIGHT))
    context.close()
    return took, weight


def what_if(browser: Any, base: str, given: str) -> None:
    page = browser.new_page(locale="en-US")
    page.goto(f"{base}/console/credit#token={given}")
    page.click("text=Fill in a made-up household")
    page.wait_for_selector(".preview .headline")
    typed, asked = page.evaluate(TYPED)
    told = [f"{statistics.median(v):.0f} ms, 95 %: {statistics.quantiles(v, n=20)[-1]:.0f} ms" for v in (typed, asked)]
    print(f"what-if, from key to figure: {told[0]} (150 is asked); of it the service's answer: {told[1]}")
    page.close()


def table(browser: Any, base: str, given: str, companies: int) -> None:
    from datasets.scitech_risk.register import schema

    form = f"{base}/v1/models/scitech_risk/form"
    who = {"Authorization": f"Bearer {given}"}
    with urllib.request.urlopen(urllib.request.Request(form, headers=who)) as answer:
        known = [field["name"] for field in json.load(answer)["fields"]]
    frame = schema.sample(min(companies, 5_000), seed=3).frame
    frame = frame.select("company_id", *[name for name in known if name in frame.columns])
    many = -(-companies // frame.height)
    body = (frame.select(frame.columns).sample(n=companies, with_replacement=many > 1, seed=1)).write_csv().encode()
    headers = who | {"Content-Type": "text/csv"}
    request = urllib.request.Request(f"{base}/v1/scitech-risks/batch?keep=company_id", body, headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        batch = answer.headers["Batch-Id"]
        while answer.read(1 << 20):
            pass
    page = browser.new_page(locale="en-US", viewport={"width": 1440, "height": 1200})
    page.goto(f"{base}/console#token={given}")
    page.wait_for_selector(".session")
    began = time.perf_counter()
    page.goto(f"{base}/console/companies/runs/{batch}")
    page.wait_for_selector(".long-row")
    opening = time.perf_counter() - began
    sorting = page.evaluate(SORTED)
    frames, place, rows = page.evaluate(SCROLLED)
    print(
        f"a table of {companies:,} rows: there after {opening:.1f} s, sorted in {sorting:.0f} ms; "
        f"scrolled by {place:,.0f} px, a frame takes {statistics.median(frames):.0f} ms, 95 %: "
        f"{statistics.quantiles(frames, n=20)[-1]:.0f} ms; "
        f"{rows} of its rows are in the page"
    )
    page.close()


if __name__ == "__main__":
    main()
