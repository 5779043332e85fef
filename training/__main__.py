"""`python -m training PRODUCT`: train, judge, export, record; `models` lists, `promote` moves the champion."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from datasets.errors import DataError
from datasets.files.text_encoding import use_utf8
from training.config import ConfigError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the libraries load, or they look up hosts
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

RECIPES = {  # the product -> its recipe
    "credit_limit": "training.credit_limit",
    "scitech_risk": "training.scitech_risk",
    "pathology": "training.pathology.recipe",
}
TABULAR_PRODUCTS = ("credit_limit", "scitech_risk")  # those that learn from a table
DEFAULT_VAR = Path("var")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
VarOption = Annotated[Path, typer.Option("--var", help="folder of everything made: bundles, runs, keys")]


def _train(product: str, config: Path | None, data: Path | None, var: Path, quiet: bool) -> None:
    from training import pipeline
    from training.progress import ProgressReporter

    recipe = _load_recipe(product)
    settings = recipe.load(config or recipe.CONFIG, data)
    with ProgressReporter(quiet) as reporter:
        reporter.log(f"training {settings.name}", style="bold")
        model = pipeline.train(recipe, settings, var, reporter)
    seconds = sum(model.step_seconds.values())
    print(f"{model.model} {model.version} (registered as version {model.registry_version}) in {seconds:.0f} s")
    for name in ("auc", "ks", "brier", "slope"):
        print(f"  {name:<6} {model.evaluation.metrics[name]}")
    print(f"  bundle {model.bundle_dir}\n  card   {model.card_path}")
    if model.verdict.passed:
        print("  the gate: passed; it is the champion")
    else:
        print("  the gate: not passed; it is the challenger, because")
        for failure in model.verdict.failures:
            print(f"    - {failure}")


def _load_recipe(product: str) -> Any:
    """Its module. Raises SettingsRefused where what it needs is not installed."""
    try:
        return import_module(RECIPES[product])
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision"):
            raise
        raise ConfigError(
            f"{product} trains networks and needs {error.name}, which is not installed. It is among the locked "
            "requirements of configs/locks/dev.txt (5 GB): make .venv/.dev installs them.\n"
            f"{product} 需要训练神经网络，但未安装 {error.name}。请运行 make .venv/.dev 安装（约 5 GB，见 "
            "configs/locks/dev.txt）。"
        ) from error


def _make_command(product: str) -> Any:
    def train(
        config: Annotated[Path | None, typer.Option(help="TOML; the product's own where none is named")] = None,
        data: Annotated[Path | None, typer.Option(help="a file, or folder, in place of the config's")] = None,
        var: VarOption = DEFAULT_VAR,
        quiet: Annotated[bool, typer.Option("--quiet", help="only the result")] = False,
    ) -> None:
        _train(product, config, data, var, quiet)

    return train


for _product in RECIPES:
    app.command(_product, help=f"Train, judge, export and record {_product}.")(_make_command(_product))


@app.command()
def init_config(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet")],
    target: Annotated[str, typer.Option(help="the column that says how it ended")],
    bad: Annotated[list[str] | None, typer.Option(help="its value for a default, where it is not 1")] = None,
    good: Annotated[list[str] | None, typer.Option(help="its value for a good end, where others occur too")] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="the table is made up; all it touches says so")
    ] = False,
    product: Annotated[str, typer.Option(help="whose model it shall become")] = TABULAR_PRODUCTS[0],
) -> None:
    """Print a config to begin with for a table of your own: what was read off each column."""
    from datasets.errors import did_you_mean
    from training.tabular.user_table import UserTableConfig, draft_config

    if product not in TABULAR_PRODUCTS:
        expected = f"one of {', '.join(TABULAR_PRODUCTS)} is needed{did_you_mean(product, list(TABULAR_PRODUCTS))}"
        raise ConfigError(f"--product is {product!r}; {expected}.")
    table_config = UserTableConfig(
        file=file,
        target=target,
        positive_labels=tuple(bad or ()),
        negative_labels=tuple(good or ()),
        simulated=simulated,
    )
    print(draft_config(table_config, product), end="")


@app.command()
def models(var: VarOption = DEFAULT_VAR) -> None:
    """Every registered version, newest first."""
    from training.tracking.mlflow_registry import Registry

    versions = Registry(var).list_versions()
    for version in versions:
        parts = [
            f"{version.model} {version.number}",
            ", ".join(version.aliases),
            version.bundle,
            f"{version.created} UTC",
            f"AUC {version.auc}",
            "simulated data" if version.simulated else "",
        ]
        print("  ".join(part for part in parts if part))
        print(f"    the gate: {version.gate}" + (f"; forced: {version.forced}" if version.forced else ""))
    if not versions:
        print("No model is registered yet. Train one: python -m training credit_limit")


@app.command()
def portfolio(
    register: Annotated[Path, typer.Argument(help="a register folder: companies, history, links, invoices")],
    model: Annotated[str, typer.Option(help="whose champion answers")] = "scitech_risk",
    previous: Annotated[Path | None, typer.Option(help="answers.parquet of an earlier month, to compare with")] = None,
    stress: Annotated[Path, typer.Option(help="TOML of the shocks")] = Path("configs/stress.toml"),
    out: Annotated[Path | None, typer.Option(help="a new folder; one under --var where none is named")] = None,
    var: VarOption = DEFAULT_VAR,
    quiet: Annotated[bool, typer.Option("--quiet", help="only the result")] = False,
) -> None:
    """Answer a whole register, compare it with an earlier month, stress it; writes answers, report and figures."""
    from training.portfolio import run
    from training.progress import ProgressReporter

    with ProgressReporter(quiet) as reporter:
        result = run.run_portfolio(run.PortfolioRequest(register, model, previous, stress, out, var), reporter)
    print(result.format_summary())


@app.command()
def release(
    models: Annotated[list[str] | None, typer.Argument(help="their names; all that ship where none is named")] = None,
    key: Annotated[Path, typer.Option(help="the private release key; created on first use")] = Path(
        "var/keys/release.pem"
    ),
    new_key: Annotated[bool, typer.Option("--new-key", help="replace the release key that ships")] = False,
    var: VarOption = DEFAULT_VAR,
) -> None:
    """Sign the champions with the release key and pack them into models/released, from where they ship."""
    from training.release import RELEASED_MODELS, release_models

    packed_bytes = 0
    for released in release_models(models or RELEASED_MODELS, var, key, new_key=new_key):
        packed_bytes += released.packed
        sizes = f"{released.unpacked / 1e6:.1f} MB, packed {released.packed / 1e6:.1f} MB"
        print(f"{released.model} {released.version}  {sizes}\n  {released.archive}\n  digest {released.digest}")
    print(f"{packed_bytes / 1e6:.1f} MB in all. Keep {key} secret and backed up; it is not part of the repository.")


@app.command()
def promote(
    model: str,
    version: Annotated[str, typer.Argument(help="its number, its bundle, or an alias")],
    force: Annotated[bool, typer.Option("--force", help="even though the gate said no; needs --reason")] = False,
    reason: Annotated[str, typer.Option(help="why; it is recorded")] = "",
    var: VarOption = DEFAULT_VAR,
) -> None:
    """Make a version the champion: one that passed the gate (a way back, too), or any with --force and a reason."""
    from training import pipeline
    from training.tracking.mlflow_registry import Registry

    registry = Registry(var)
    registered = registry.find(model, version)
    if registered.gate != "passed" and not (force and reason.strip()):
        hint = "Give a reason: --reason ..." if force else "To do it all the same: --force --reason ..."
        raise ConfigError(
            f"{model} {registered.number} ({registered.bundle}) did not pass the gate: {registered.gate}. {hint}"
        )
    pipeline.promote(registry, var, model, registered.number, registered.bundle)
    if force:
        registry.set_tags(model, registered.number, {"forced": reason})
    print(f"{model}: version {registered.number} ({registered.bundle}) is the champion{' by force' if force else ''}")


def main() -> int:
    """Run a command; what a person can put right is told in sentences, without a traceback."""
    from models.bundle import BundleError
    from models.policy.config import PolicyError
    from training.tracking.mlflow_registry import NotRegisteredError

    user_errors = (DataError, ConfigError, PolicyError, BundleError, NotRegisteredError, FileNotFoundError)
    use_utf8()
    try:
        app(standalone_mode=True)
    except user_errors as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
