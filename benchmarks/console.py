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

from benchmarks.serving import ROOT, TELEMETRY_OFF, build, build_companies, var_dir

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ROLES = ("bank", "clinic", "pathologist", "scientist", "auditor", "operator")
PERSON = {"name": "Benchmark", "licence": "BENCH-0001"}
REPEATS = 7
BARE_PAGE = (
    "<!doctype html><title>bare</title><link rel=icon href=data:,><header><nav><a href=#>A page</a></nav></header>"
)
PAGE_WEIGHT_JS = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((each) => !each.name.endsWith(".ttf")).reduce((sum, each) => sum + each.encodedBodySize, 0)"""
# From the key to the figure on the page, pause and all (it may stay the same figure); and what of it the answer took.
TYPING_JS = """async () => {
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
SCROLL_JS = """async () => {
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
SORT_JS = """async () => {
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

    with tempfile.TemporaryDirectory(dir=var_dir()) as name, sync_playwright() as playwright:
        folder = Path(name)
        build(folder)
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
        except OSError as error:  # not there yet
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
    """Each time in a browser that has seen nothing, and beside it a bare page."""
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
        f"first page, {role}: {weight / 1_000:.0f} kB (under 200 is asked), there after {1_000 * own_median:.0f} ms "
        f"(1,000 is asked); {own_median / bare_median:.1f} times a bare page"
    )


def open_page(browser: Any, address: str, selector: str) -> tuple[float, int]:
    """(seconds until it is there, bytes without a Chinese font, which only a machine without one is sent)."""
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
    print(f"what-if, from key to figure: {summaries[0]} (150 is asked); of it the service's answer: {summaries[1]}")
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
        f"a table of {companies:,} rows: there after {opening:.1f} s, sorted in {sorting:.0f} ms; "
        f"scrolled by {scroll_top:,.0f} px, a frame takes {statistics.median(frames):.0f} ms, 95 %: "
        f"{statistics.quantiles(frames, n=20)[-1]:.0f} ms; "
        f"{visible_rows} of its rows are in the page"
    )
    page.close()


if __name__ == "__main__":
    main()
