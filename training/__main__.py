"""Train a product's model (`python -m training PRODUCT`), list, promote and release models, report a portfolio."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from datasets.errors import DataError, UnreadableFileError
from datasets.files.error_report import run_reported
from datasets.files.text_encoding import use_utf8
from training.config import ConfigError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the libraries are loaded, or they look up hosts
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

PRODUCTS = {  # product -> its recipe and its pipeline; imported on use, because torch takes seconds
    "credit_limit": ("training.credit_limit:RECIPE", "training.tabular.pipeline:TabularPipeline"),
    "scitech_risk": ("training.scitech_risk:RECIPE", "training.tabular.pipeline:TabularPipeline"),
    "pathology": ("training.pathology.recipe", "training.pathology.pipeline:PathologyPipeline"),
}
TABULAR_PRODUCTS = ("credit_limit", "scitech_risk")
DEFAULT_VAR = Path("var")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
VarOption = Annotated[Path, typer.Option("--var", help="folder of bundles, runs and keys")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="print only the result")]


def _train(product: str, config: Path | None, data: Path | None, var: Path, quiet: bool) -> None:
    from training import pipeline
    from training.progress import ProgressReporter

    recipe, pipeline_type = load_product(product)
    settings = recipe.load(config or Path("configs") / f"{product}.toml", data)
    with ProgressReporter(quiet) as reporter:
        reporter.log(f"training {settings.name}", style="bold")
        model = pipeline.train(recipe, pipeline_type, settings, var, reporter)
    seconds = sum(model.step_seconds.values())
    print(f"{model.model} {model.version} (registered as version {model.registry_version}) in {seconds:.0f} s")
    for name in ("auc", "ks", "brier", "slope"):
        print(f"  {name:<6} {model.evaluation.metrics[name]}")
    print(f"  bundle {model.bundle_dir}\n  card   {model.card_path}")
    if (profile := model.card_path.with_name("profile.html")).exists():
        print(f"  profile of the table {profile}")
    if model.verdict.passed:
        print("  gate: passed; this version is now the champion")
    else:
        print("  gate: not passed; this version is the challenger, because")
        for failure in model.verdict.failures:
            print(f"    - {failure}")


def load_product(product: str) -> tuple[Any, Any]:
    """Import a product's recipe and pipeline. Raises ConfigError where a package that they need is not installed."""
    try:
        recipe, pipeline_type = (_resolve(name) for name in PRODUCTS[product])
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision"):
            raise
        raise ConfigError(
            f"{product} trains neural networks and needs {error.name}, which is not installed. Run `make .venv/.dev` "
            "to "
            "install it (5 GB, see configs/locks/dev.txt).\n"
            f"{product} 需要训练神经网络，但未安装 {error.name}。请运行 make .venv/.dev 安装（约 5 GB，见 "
            "configs/locks/dev.txt）。"
        ) from error
    return recipe, pipeline_type


def _resolve(name: str) -> Any:
    """Import "module" or "module:attribute"."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute) if attribute else import_module(module)


def _make_command(product: str) -> Any:
    def train(
        config: Annotated[Path | None, typer.Option(help="TOML file; by default configs/PRODUCT.toml")] = None,
        data: Annotated[Path | None, typer.Option(help="file or folder to read instead of the config's")] = None,
        var: VarOption = DEFAULT_VAR,
        quiet: QuietOption = False,
    ) -> None:
        _train(product, config, data, var, quiet)

    return train


for _product in PRODUCTS:
    app.command(_product, help=f"Train, evaluate, export and record {_product}.")(_make_command(_product))


@app.command()
def init_config(
    file: Annotated[str, typer.Argument(help="CSV, Excel, Parquet, NDJSON, a folder of parts, a database's address")],
    target: Annotated[str, typer.Option(help="the column with the outcome")],
    bad: Annotated[list[str] | None, typer.Option(help="its value for a default, if not 1")] = None,
    good: Annotated[list[str] | None, typer.Option(help="its value for no default, if there are other values")] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="the table is simulated; everything made from it says so")
    ] = False,
    product: Annotated[str, typer.Option(help="the product to train a model for")] = TABULAR_PRODUCTS[0],
    sheet: Annotated[str | None, typer.Option(help="of a workbook; by default the first with a table")] = None,
    header_row: Annotated[int | None, typer.Option(help="its number in the sheet, where it is not recognised")] = None,
    query: Annotated[str, typer.Option(help="the rows to read from a database, or the name of a table")] = "",
    profile: Annotated[
        Path | None, typer.Option(help="page with a plot of each column; by default var/profiles/NAME.html")
    ] = None,
) -> None:
    """Draft a config for a table of your own, from what was inferred about each column, and write its profile."""
    from datasets.errors import did_you_mean
    from datasets.tables.database import is_address
    from training.tabular.config_draft import format_config
    from training.tabular.profile.page import write_profile
    from training.tabular.user_table import UserTableConfig, read_user_table

    if product not in TABULAR_PRODUCTS:
        hint = did_you_mean(product, list(TABULAR_PRODUCTS))
        raise ConfigError(f"--product is {product!r}; one of {', '.join(TABULAR_PRODUCTS)} is expected{hint}.")
    table_config = UserTableConfig(
        file=None if is_address(file) else Path(file),
        database=file if is_address(file) else "",
        query=query,
        sheet=sheet,
        header_row=header_row,
        target=target,
        positive_labels=tuple(bad or ()),
        negative_labels=tuple(good or ()),
        simulated=simulated,
    )
    user_table = read_user_table(table_config)
    page = profile or DEFAULT_VAR / "profiles" / f"{table_config.name}.html"
    write_profile(user_table, table_config.label, page, simulated)
    print(format_config(user_table, table_config, product), end="")
    print(f"The profile of the table is in {page}.\n数据概况见 {page}。", file=sys.stderr)


@app.command()
def models(var: VarOption = DEFAULT_VAR) -> None:
    """List every registered version, newest first."""
    from training.tracking.mlflow_registry import Registry

    versions = Registry(var).list_versions()
    for version in versions:
        fields = [
            f"{version.model} {version.number}",
            ", ".join(version.aliases),
            version.bundle,
            f"{version.created} UTC",
            f"AUC {version.auc}",
            "simulated data" if version.simulated else "",
        ]
        print("  ".join(text for text in fields if text))
        print(f"    gate: {version.gate}" + (f"; forced: {version.forced}" if version.forced else ""))
    if not versions:
        print("No model is registered yet. Train one: python -m training credit_limit")


@app.command()
def portfolio(
    register: Annotated[Path, typer.Argument(help="a register folder: companies, history, links, invoices")],
    model: Annotated[str, typer.Option(help="the model whose champion answers")] = "scitech_risk",
    previous: Annotated[Path | None, typer.Option(help="answers.parquet of an earlier month to compare with")] = None,
    stress: Annotated[Path, typer.Option(help="TOML file of the shocks")] = Path("configs/stress.toml"),
    out: Annotated[Path | None, typer.Option(help="a new folder; by default one under --var")] = None,
    var: VarOption = DEFAULT_VAR,
    quiet: QuietOption = False,
) -> None:
    """Answer a whole register, compare it with an earlier month, stress it; write answers, report and figures."""
    from training.portfolio import run
    from training.progress import ProgressReporter

    with ProgressReporter(quiet) as reporter:
        result = run.run_portfolio(run.PortfolioRequest(register, model, previous, stress, out, var), reporter)
    print(result.format_summary())


@app.command()
def release(
    models: Annotated[list[str] | None, typer.Argument(help="names of models; by default all that ship")] = None,
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
    print(f"{packed_bytes / 1e6:.1f} MB in total. Keep {key} secret and backed up; it is not part of the repository.")


@app.command()
def promote(
    model: str,
    version: Annotated[str, typer.Argument(help="its number, its bundle, or an alias")],
    force: Annotated[bool, typer.Option("--force", help="although the gate was not passed; needs --reason")] = False,
    reason: Annotated[str, typer.Option(help="why; it is recorded")] = "",
    var: VarOption = DEFAULT_VAR,
) -> None:
    """Make a version the champion, an earlier one too: one that passed the gate, or any with --force and a reason."""
    from training import pipeline
    from training.tracking.mlflow_registry import Registry

    registry = Registry(var)
    registered = registry.find(model, version)
    if registered.gate != "passed" and not (force and reason.strip()):
        hint = "Give a reason: --reason ..." if force else "To promote it all the same: --force --reason ..."
        raise ConfigError(
            f"{model} {registered.number} ({registered.bundle}) did not pass the gate: {registered.gate}. {hint}"
        )
    pipeline.promote(registry, var, model, registered.number, registered.bundle)
    if force:
        registry.set_tags(model, registered.number, {"forced": reason})
    print(f"{model}: version {registered.number} ({registered.bundle}) is the champion{' by force' if force else ''}")
    if registered.gate != "passed":
        print(f"It serves only once two scientists have forced it: POST /v1/models/{model}/champion with force: true.")


def main() -> int:
    """Run a command; an error is printed as a sentence, without a traceback."""
    from models.bundle import BundleError
    from models.policy.config import PolicyError
    from training.tracking.mlflow_registry import NotRegisteredError

    user_errors = (DataError, ConfigError, PolicyError, BundleError, NotRegisteredError, FileNotFoundError)
    use_utf8()
    try:
        return run_reported(lambda: app(standalone_mode=True), user_errors)
    except user_errors as error:
        print(error.both() if isinstance(error, UnreadableFileError) else error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
