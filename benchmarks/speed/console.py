"""Measure the console in a real browser, compared with a page of nothing but HTML.

    python -m benchmarks.speed.console [--companies 100000]

Prints the size of a first page and how long it takes to appear (goals: 200 KB and 1 s), how long a what-if takes from
the key press to the figure (goal: 150 ms at the 95th percentile), and how a table of 100,000 companies opens, sorts and
scrolls.
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

from benchmarks.speed.common import ROOT, TELEMETRY_OFF, build_companies, build_households, var_dir

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ROLES = ("bank", "clinic", "pathologist", "scientist", "auditor", "operator")
PERSON = {"name": "Benchmark", "licence": "BENCH-0001"}
REPEATS = 7
BARE_PAGE = (
    "<!doctype html><title>bare</title><link rel=icon href=data:,><header><nav><a href=#>A page</a></nav></header>"
)
PAGE_WEIGHT_JS = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((entry) => !entry.name.endsWith(".ttf")).reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""
# From the key press to the figure on the page, including the debounce, and the part of it that the response took.
TYPING_JS = """async () => {
  const field = document.querySelector("[name=monthly_debt_service]"), preview = document.querySelector(".preview");
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set, times = [];
  for (let key = 0; key < 120; key += 1) {
    const started = performance.now();
    const settled = new Promise((resolve, reject) => {
      const timeout = setTimeout(() => reject(new Error(`no figure for key ${key} within 10 s`)), 10_000);
      const observer = new MutationObserver(() => {
        if (preview.querySelector("[aria-busy=true]")) return;
        observer.disconnect();
        clearTimeout(timeout);
        resolve(performance.now() - started);
      });
      observer.observe(preview, { subtree: true, attributeFilter: ["aria-busy"] });
    });
    set.call(field, String(501 + 37 * key));
    field.dispatchEvent(new Event("input", { bubbles: true }));
    times.push(await settled);
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  const requests = performance.getEntriesByType("resource").filter((entry) => entry.name.endsWith("/what-if"));
  return [times, requests.map((entry) => entry.duration)];
}"""
SCROLL_JS = """async () => {
  const body = document.querySelector(".long-body"), frames = [];
  let before = await new Promise(requestAnimationFrame);
  for (let step = 0; step < 240; step += 1) {
    body.scrollTop += 14_000;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - before);
    before = now;
  }
  return [frames, body.scrollTop, document.querySelectorAll(".long-row").length];
}"""
SORT_JS = """async () => {
  const started = performance.now();
  document.querySelectorAll(".long-head button")[2].click();
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - started;
}"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--companies", type=int, default=100_000)
    companies = parser.parse_args().companies
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(dir=var_dir()) as name, sync_playwright() as playwright:
        folder = Path(name)
        build_households(folder)
        build_companies(folder)
        service, base = start_service(folder)
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for role in ROLES:
                measure_first_page(browser, base, create_token(folder, role), role)
            measure_what_if(browser, base, create_token(folder, "bank"))
            measure_table(browser, base, create_token(folder, "bank"), companies)
            browser.close()
        finally:
            os.killpg(service.pid, signal.SIGTERM)
            service.wait()


def start_service(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    from socket import socket

    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        **TELEMETRY_OFF,
        "YUHENG_HOME": str(folder),
        "YUHENG_BUNDLES": str(folder / "bundles"),
        "YUHENG_PUBLIC_KEY": str(folder / "keys/signing.pub.pem"),
        "YUHENG_TOKENS": str(folder / "keys/tokens.pem"),
    }
    with (folder / "service.log").open("wb") as log:
        command = [sys.executable, "-m", "serving", "serve", "--port", str(port)]
        service = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    base, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{base}/healthz/ready", timeout=2).close()
            return service, base
        except OSError as error:  # not listening yet
            if time.monotonic() > deadline:
                raise SystemExit((folder / "service.log").read_text(encoding="utf-8")) from error
            time.sleep(0.3)


def create_token(folder: Path, role: str) -> str:
    from serving.core.security.token_issuer import issue_token

    person: dict[str, Any] = PERSON if role == "pathologist" else {}
    return issue_token(
        folder / "keys/tokens.pem", "yuheng", tenant="bench", roles=[role], subject=f"bench/{role}", **person
    )


def measure_first_page(browser: Any, base: str, token: str, role: str) -> None:
    """Open the page and a bare page in turns, each time in a browser without any cache."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "index.html").write_text(BARE_PAGE, encoding="utf-8")
        quiet_handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        bare_server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(quiet_handler, directory=name)
        )
        threading.Thread(target=bare_server.serve_forever, daemon=True).start()
        own_seconds, bare_seconds, weight = [], [], 0
        for _ in range(REPEATS):
            seconds, weight = open_page(browser, f"{base}/console#token={token}", ".session")
            own_seconds.append(seconds)
            bare_seconds.append(open_page(browser, f"http://127.0.0.1:{bare_server.server_port}/", "nav a")[0])
        bare_server.shutdown()
    own_median, bare_median = statistics.median(own_seconds), statistics.median(bare_seconds)
    print(
        f"first page, {role}: {weight / 1_000:.0f} kB (goal: under 200), visible after {1_000 * own_median:.0f} ms "
        f"(goal: 1,000); {own_median / bare_median:.1f} times a bare page"
    )


def open_page(browser: Any, address: str, selector: str) -> tuple[float, int]:
    """(seconds until it is visible, bytes without the Chinese font, which only machines without one load)."""
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(selector)
    seconds = time.perf_counter() - started
    page.wait_for_load_state("networkidle")
    weight = int(page.evaluate(PAGE_WEIGHT_JS))
    context.close()
    return seconds, weight


def measure_what_if(browser: Any, base: str, token: str) -> None:
    page = browser.new_page(locale="en-US")
    page.goto(f"{base}/console/credit#token={token}")
    page.click("text=Fill in a made-up household")
    page.wait_for_selector(".preview .headline")
    typing_ms, request_ms = page.evaluate(TYPING_JS)
    summaries = [
        f"{statistics.median(values):.0f} ms, 95 %: {statistics.quantiles(values, n=20)[-1]:.0f} ms"
        for values in (typing_ms, request_ms)
    ]
    print(f"what-if, from key to figure: {summaries[0]} (goal: 150); of it the response of the service: {summaries[1]}")
    page.close()


def measure_table(browser: Any, base: str, token: str, companies: int) -> None:
    from datasets.scitech_risk.register import reader

    form = f"{base}/v1/models/scitech_risk/form"
    auth_header = {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(form, headers=auth_header)) as response:
        field_names = [field["name"] for field in json.load(response)["fields"]]
    frame = reader.sample(min(companies, 5_000), seed=3).frame
    frame = frame.select("company_id", *[name for name in field_names if name in frame.columns])
    copies = -(-companies // frame.height)
    body = (frame.select(frame.columns).sample(n=companies, with_replacement=copies > 1, seed=1)).write_csv().encode()
    headers = auth_header | {"Content-Type": "text/csv"}
    request = urllib.request.Request(f"{base}/v1/scitech-risks/batch?keep=company_id", body, headers)
    with urllib.request.urlopen(request, timeout=600) as response:
        batch = response.headers["Batch-Id"]
        while response.read(1 << 20):
            pass
    page = browser.new_page(locale="en-US", viewport={"width": 1440, "height": 1200})
    page.goto(f"{base}/console#token={token}")
    page.wait_for_selector(".session")
    started = time.perf_counter()
    page.goto(f"{base}/console/companies/runs/{batch}")
    page.wait_for_selector(".long-row")
    opening = time.perf_counter() - started
    sorting = page.evaluate(SORT_JS)
    frames, scroll_top, visible_rows = page.evaluate(SCROLL_JS)
    print(
        f"a table of {companies:,} rows: visible after {opening:.1f} s, sorted in {sorting:.0f} ms; "
        f"scrolled by {scroll_top:,.0f} px, a frame takes {statistics.median(frames):.0f} ms, 95 %: "
        f"{statistics.quantiles(frames, n=20)[-1]:.0f} ms; "
        f"{visible_rows} of its rows are in the document"
    )
    page.close()


if __name__ == "__main__":
    main()
