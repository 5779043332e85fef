"""Turn an unexpected error into a sentence for the user of a command, and a report file for its maintainer."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

REPORT_FOLDER = Path("var") / "errors"
EXIT_STATUS = 70  # as sysexits.h has it: an error inside the program


def run_reported(
    command: Callable[[], object], expected: tuple[type[BaseException], ...] = (), folder: Path = REPORT_FOLDER
) -> int:
    """Run a command. An unexpected error becomes a sentence on stderr and a report file. Returns the exit status.

    `expected` errors, Ctrl-C and a deliberate exit pass through.
    """
    deliberate: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, *expected)
    try:
        command()
    except deliberate:
        raise
    except BaseException as error:  # a panic of polars is no Exception
        print(describe(error, write_report(error, folder)), file=sys.stderr)
        return EXIT_STATUS
    return 0


def describe(error: BaseException, report: Path | None) -> str:
    """What happened and what to do, in English and Chinese."""
    reason = " ".join(str(error).split())[:200] or "no message"
    frames = traceback.extract_tb(error.__traceback__)
    location = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    where = f"The details are in {report}; send that file" if report else "Send this message"
    where_zh = f"详情见 {report}，请将该文件" if report else "请将此信息"
    return (
        f"The command ended with an error that it does not know: {type(error).__name__}: {reason}{location}. If you "
        f"gave it a file, check that file first. {where} to whoever maintains this installation.\n"
        f"命令因未知错误而中止：{type(error).__name__}。若提供了文件，请先检查该文件。{where_zh}发送给系统维护人员。"
    )


def write_report(error: BaseException, folder: Path) -> Path | None:
    """Write the traceback, the command and the versions to a new file that only its owner may read."""
    lines = [
        f"time     {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
        f"command  {' '.join(sys.argv)}",
        f"python   {sys.version.split()[0]} on {platform.platform()}",
        "",
        *traceback.format_exception(error),
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prefix = time.strftime("%Y%m%d-%H%M%S-", time.gmtime())
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".txt", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
    except OSError:
        return None  # the folder cannot be written: the sentence alone remains
    return Path(name)
