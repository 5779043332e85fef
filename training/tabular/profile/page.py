"""Write the summary of a table as one HTML page. It loads nothing, contains no script, and escapes every value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.tabular.profile.summary import ROLES, Bin, TableSummary, summarise
from training.tabular.user_table import UserTable

TEMPLATE = Path(__file__).with_name("page.html")
WIDTH, HEIGHT = 260, 56  # of a plot, px


def write_profile(user_table: UserTable, label: str, path: Path, simulated: bool = False) -> None:
    """Write the page of a table. label: what it is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(summarise(user_table), label, user_table.format, simulated), encoding="utf-8")


def render(summary: TableSummary, label: str, format: str, simulated: bool = False) -> str:
    """The page. format: how the file is written, in words."""
    from jinja2 import Environment, StrictUndefined

    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.filters["percent"] = format_percent
    template = env.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        summary=summary, label=label, format=format, simulated=simulated, roles=ROLES,
        plot=plot_bins, width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def format_percent(share: float | None) -> str:
    """A share as text: 0.0123 -> 1.2 %."""
    if share is None:
        return "–"
    return "0 %" if share == 0 else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def plot_bins(bins: Sequence[Bin], width: int = WIDTH) -> dict[str, object]:
    """The geometry of a plot: bars for the rows of each bin, dots for its rate of default, each to its own scale."""
    most_rows = max((bin.rows for bin in bins), default=0) or 1
    top_rate = max((bin.bad_rate or 0.0 for bin in bins), default=0.0) or 1.0
    step = width / max(1, len(bins))
    bars, dots = [], []
    for index, bin in enumerate(bins):
        size = (HEIGHT - 4) * bin.rows / most_rows
        title = f"{bin.label}: {bin.rows:,}, {format_percent(bin.bad_rate)}"
        bars.append({"x": round(index * step, 1), "y": round(HEIGHT - size, 1), "width": round(step * 0.86, 1),
                     "height": round(size, 1), "title": title})  # fmt: skip
        if bin.bad_rate is not None:
            y = HEIGHT - 3 - (HEIGHT - 8) * bin.bad_rate / top_rate
            dots.append({"x": round((index + 0.43) * step, 1), "y": round(y, 1), "title": title})
    return {"bars": bars, "dots": dots, "top_rate": top_rate, "width": width}
