"""`python -m training PRODUCT`: train, judge, export, record; `models` lists, `promote` moves the champion."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from datasets.errors import DataError
from datasets.text_encoding import use_utf8
from training.config import SettingsRefused

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the libraries load, or they look up hosts
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

PRODUCTS = {  # the product -> its recipe
    "credit_limit": "training.credit_limit",
    "scitech_risk": "training.scitech_risk",
    "pathology": "training.pathology.recipe",
}
TABLES = ("credit_limit", "scitech_risk")  # those that learn from a table
VAR = Path("var")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Var = Annotated[Path, typer.Option("--var", help="folder of everything made: bundles, runs, keys")]


def _train(product: str, config: Path | None, data: Path | None, var: Path, quiet: bool) -> None:
    from training import pipeline
    from training.progress import Watch

    recipe = _recipe(product)
    settings = recipe.load(config or recipe.CONFIG, data)
    with Watch(quiet) as watch:
        watch.say(f"training {settings.name}", style="bold")
        made = pipeline.train(recipe, settings, var, watch)
    seconds = sum(made.seconds.values())
    print(f"{made.model} {made.version} (registered as version {made.number}) in {seconds:.0f} s")
    for name in ("auc", "ks", "brier", "slope"):
        print(f"  {name:<6} {made.judgement.figures[name]}")
    print(f"  bundle {made.folder}\n  card   {made.report}")
    if made.verdict.passed:
        print("  the gate: passed; it is the champion")
    else:
        print("  the gate: not passed; it is the challenger, because")
        for why in made.verdict.why:
            print(f"    - {why}")


def _recipe(product: str) -> Any:
    """Its module. Raises SettingsRefused where what it needs is not installed."""
    try:
        return import_module(PRODUCTS[product])
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision"):
            raise
        raise SettingsRefused(
            f"{product} trains networks and needs {error.name}, which is not installed. It is among the locked "
            "requirements of configs/locks/dev.txt (5 GB): make .venv/.dev installs them.\n"
            f"{product} 需要训练神经网络，但未安装 {error.name}。请运行 make .venv/.dev 安装（约 5 GB，见 "
            "configs/locks/dev.txt）。"
        ) from error


def _command(product: str) -> Any:
    def train(
        config: Annotated[Path | None, typer.Option(help="TOML; the product's own where none is named")] = None,
        data: Annotated[Path | None, typer.Option(help="a file, or folder, in place of the config's")] = None,
        var: Var = VAR,
        quiet: Annotated[bool, typer.Option("--quiet", help="only the result")] = False,
    ) -> None:
        _train(product, config, data, var, quiet)

    return train


for _product in PRODUCTS:
    app.command(_product, help=f"Train, judge, export and record {_product}.")(_command(_product))


@app.command()
def look(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet")],
    target: Annotated[str, typer.Option(help="the column that says how it ended")],
    bad: Annotated[list[str] | None, typer.Option(help="its value for a default, where it is not 1")] = None,
    good: Annotated[list[str] | None, typer.Option(help="its value for a good end, where others occur too")] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="the table is made up; all it touches says so")
    ] = False,
    product: Annotated[str, typer.Option(help="whose model it shall become")] = TABLES[0],
) -> None:
    """Print a config to begin with for a table of your own: what was read off each column."""
    from datasets.schema import nearest
    from training.tabular.user_table import OwnData, starter

    if product not in TABLES:
        told = f"one of {', '.join(TABLES)} is needed{nearest(product, list(TABLES))}"
        raise SettingsRefused(f"--product is {product!r}; {told}.")
    own = OwnData(file=file, target=target, bad=tuple(bad or ()), good=tuple(good or ()), simulated=simulated)
    print(starter(own, product), end="")


@app.command()
def models(var: Var = VAR) -> None:
    """Every registered version, newest first."""
    from training.tracking.mlflow_registry import Registry

    known = Registry(var).versions()
    for version in known:
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
    if not known:
        print("No model is registered yet. Train one: python -m training credit_limit")


@app.command()
def portfolio(
    register: Annotated[Path, typer.Argument(help="a register folder: companies, history, links, invoices")],
    model: Annotated[str, typer.Option(help="whose champion answers")] = "scitech_risk",
    previous: Annotated[Path | None, typer.Option(help="answers.parquet of an earlier month, to compare with")] = None,
    stress: Annotated[Path, typer.Option(help="TOML of the shocks")] = Path("configs/stress.toml"),
    out: Annotated[Path | None, typer.Option(help="a new folder; one under --var where none is named")] = None,
    var: Var = VAR,
    quiet: Annotated[bool, typer.Option("--quiet", help="only the result")] = False,
) -> None:
    """Answer a whole register, compare it with an earlier month, stress it; writes answers, report and figures."""
    from training.portfolio import run
    from training.progress import Watch

    with Watch(quiet) as watch:
        done = run.portfolio(run.Asked(register, model, previous, stress, out, var), watch)
    print(done.told())


@app.command()
def release(
    models: Annotated[list[str] | None, typer.Argument(help="their names; all that ship where none is named")] = None,
    key: Annotated[Path, typer.Option(help="the private release key; made there on first use")] = Path(
        "var/keys/release.pem"
    ),
    new_key: Annotated[bool, typer.Option("--new-key", help="replace the release key that ships")] = False,
    var: Var = VAR,
) -> None:
    """Sign the champions with the release key and put them into models/released, from where they ship."""
    from training.release import MODELS
    from training.release import release as publish

    total = 0
    for one in publish(models or MODELS, var, key, new_key=new_key):
        total += one.packed
        print(f"{one.model} {one.version}  {one.unpacked / 1e6:.1f} MB, packed {one.packed / 1e6:.1f} MB")
        print(f"  {one.archive}\n  digest {one.digest}")
    print(f"{total / 1e6:.1f} MB in all. Keep {key} secret and backed up; it is not part of the repository.")


@app.command()
def promote(
    model: str,
    version: Annotated[str, typer.Argument(help="its number, its bundle, or an alias")],
    force: Annotated[bool, typer.Option("--force", help="even though the gate said no; needs --reason")] = False,
    reason: Annotated[str, typer.Option(help="why; it is recorded")] = "",
    var: Var = VAR,
) -> None:
    """Make a version the champion: one that passed the gate (a way back, too), or any with --force and a reason."""
    from training import pipeline
    from training.tracking.mlflow_registry import Registry

    registry = Registry(var)
    found = registry.find(model, version)
    if found.gate != "passed" and not (force and reason.strip()):
        needed = "Give a reason: --reason ..." if force else "To do it all the same: --force --reason ..."
        raise SettingsRefused(f"{model} {found.number} ({found.bundle}) did not pass the gate: {found.gate}. {needed}")
    pipeline.promote(registry, var, model, found.number, found.bundle)
    if force:
        registry.tag(model, found.number, {"forced": reason})
    print(f"{model}: version {found.number} ({found.bundle}) is the champion{' by force' if force else ''}")


def main() -> int:
    """Run a command; what a person can put right is told in sentences, without a traceback."""
    from models.bundle import BundleRefused
    from models.policy.config import PolicyRefused
    from training.tracking.mlflow_registry import NotRegistered

    refused = (DataError, SettingsRefused, PolicyRefused, BundleRefused, NotRegistered, FileNotFoundError)
    use_utf8()
    try:
        app(standalone_mode=True)
    except refused as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
