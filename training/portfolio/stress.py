"""The shocks that a register is put to: read from configs/stress.toml, and held against its contract."""

from __future__ import annotations

from pathlib import Path

from datasets.errors import did_you_mean
from datasets.schema import TableSchema
from models.scitech_risk.stress import LARGEST_TRADE, StressConfig
from training.config import ConfigError
from training.config import load as load_config

CONFIG = Path("configs/stress.toml")


def load_shocks(path: Path | str) -> StressConfig:
    """Raises SettingsRefused with every fault."""
    return load_config(path, StressConfig)


def verify_shocks(stress: StressConfig, table: TableSchema, source: str) -> None:
    """Raises SettingsRefused where a shock names what the register has not."""
    number_columns = [column.name for column in table.columns if column.kind == "number" and column.derived is None]
    trades = [LARGEST_TRADE, *(table["trade"].levels if "trade" in [column.name for column in table.columns] else ())]
    errors = []
    for shock in stress.shocks:
        names = [name for effect in shock.effects for name in (effect.column, effect.of, effect.of_change_in) if name]
        for name in dict.fromkeys(names):
            if name not in number_columns:
                errors.append(
                    f"{shock.code}: {name!r} is no stated number of {table.name}{did_you_mean(name, number_columns)}."
                )
        if shock.trade and shock.trade not in trades:
            errors.append(f"{shock.code}: trade is {shock.trade!r}{did_you_mean(shock.trade, trades)}; "
                         f"one of {', '.join(trades)} is needed.")  # fmt: skip
    if errors:
        raise ConfigError("\n".join(f"{source}: {line}" for line in errors))
