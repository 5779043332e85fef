"""The shocks that a register is put to: read from configs/stress.toml, and held against its contract."""

from __future__ import annotations

from pathlib import Path

from datasets.schema import Table, nearest
from models.scitech_risk.stress import LARGEST, Stress
from training.config import SettingsRefused
from training.config import load as load_settings

CONFIG = Path("configs/stress.toml")


def load(path: Path | str) -> Stress:
    """Raises SettingsRefused with every fault."""
    return load_settings(path, Stress)


def verify(stress: Stress, table: Table, place: str) -> None:
    """Raises SettingsRefused where a shock names what the register has not."""
    known = [column.name for column in table.columns if column.kind == "number" and column.derived is None]
    trades = [LARGEST, *(table["trade"].levels if "trade" in [column.name for column in table.columns] else ())]
    wrong = []
    for shock in stress.shocks:
        names = [name for effect in shock.effects for name in (effect.column, effect.of, effect.of_change_in) if name]
        for name in dict.fromkeys(names):
            if name not in known:
                wrong.append(f"{shock.code}: {name!r} is no stated number of {table.name}{nearest(name, known)}.")
        if shock.trade and shock.trade not in trades:
            wrong.append(f"{shock.code}: trade is {shock.trade!r}{nearest(shock.trade, trades)}; "
                         f"one of {', '.join(trades)} is needed.")  # fmt: skip
    if wrong:
        raise SettingsRefused("\n".join(f"{place}: {line}" for line in wrong))
