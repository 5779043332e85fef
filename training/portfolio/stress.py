"""Read the shocks of a stress test from configs/stress.toml, and check them against the register's schema."""

from __future__ import annotations

from pathlib import Path

from datasets.errors import did_you_mean
from datasets.schema import TableSchema
from models.scitech_risk.stress import LARGEST_TRADE, StressConfig
from training.config import ConfigError
from training.config import load as load_config

CONFIG = Path("configs/stress.toml")


def load_shocks(path: Path | str) -> StressConfig:
    """Read the shocks. Raises ConfigError listing every fault."""
    return load_config(path, StressConfig)


def verify_shocks(stress: StressConfig, table: TableSchema, source: str) -> None:
    """Check that every column and trade of the shocks exists in `table`; raises ConfigError listing every fault.

    source: the file that the messages name.
    """
    number_columns = [column.name for column in table.columns if column.kind == "number" and column.derived is None]
    trades = [LARGEST_TRADE, *(table["trade"].levels if "trade" in [column.name for column in table.columns] else ())]
    errors = []
    for shock in stress.shocks:
        names = [name for effect in shock.effects for name in (effect.column, effect.of, effect.of_change_in) if name]
        for name in dict.fromkeys(names):
            if name not in number_columns:
                errors.append(
                    f"{shock.code}: {name!r} is not a numeric input of "
                    f"{table.name}{did_you_mean(name, number_columns)}."
                )
        if shock.trade and shock.trade not in trades:
            errors.append(
                f"{shock.code}: trade is {shock.trade!r}{did_you_mean(shock.trade, trades)}; one of "
                f"{', '.join(trades)} is "
                "expected."
            )
    if errors:
        raise ConfigError("\n".join(f"{source}: {line}" for line in errors))
