"""Describe data sets and simulate data.

python -m datasets croissant taiwan --out taiwan.json
python -m datasets invoices 进项.xlsx 销项.xlsx --out companies.parquet
python -m datasets simulate county --households 50000 --seed 7
python -m datasets simulate register --companies 20000 --seed 7 --out var/zone
python -m datasets simulate slides --slides 8 --columns 12 --rows 10 --seed 7
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from datasets.errors import DataError
from datasets.files.error_report import run_reported
from datasets.files.text_encoding import use_utf8

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
simulate = typer.Typer(no_args_is_help=True, help="Write SIMULATED data: nobody in it exists.")
app.add_typer(simulate, name="simulate")

Seed = Annotated[int, typer.Option(help="The same seed gives the same data.")]


@contextmanager
def _data_errors() -> Iterator[None]:
    """Print a DataError and exit with 1."""
    try:
        yield
    except DataError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


@app.command()
def croissant(
    name: Annotated[str, typer.Argument(help="A source, as a config names it.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; without it the document is printed.")] = None,
    file: Annotated[Path | None, typer.Option(help="The data file, if the contract does not name one.")] = None,
) -> None:
    """Describe a data set as Croissant JSON-LD: file and digest, columns with units and ranges, licence, origin."""
    from datasets.export.croissant import describe_source

    with _data_errors():
        document = json.dumps(describe_source(name, file), ensure_ascii=False, indent=1)
    if out is None:
        typer.echo(document)
    else:
        out.write_text(document + "\n", encoding="utf-8")


@app.command()
def invoices(
    files: Annotated[list[Path], typer.Argument(help="Tables of invoices, in any format that training reads.")],
    out: Annotated[Path, typer.Option(help="The table of companies to write: .parquet, or .csv.")],
    columns: Annotated[
        Path | None, typer.Option(help="TOML that names headings which are not recognised: company = '...'.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="The day, YYYY-MM-DD, after which nothing is known; by default the last one.")
    ] = None,
) -> None:
    """Compute the indicators of companies from their invoices, for training, batches and decisions."""
    from datasets.scitech_risk.invoices import command

    with _data_errors():
        typer.echo(command.run(files, out, columns, as_of))


@simulate.command()
def county(households: int = 50_000, seed: Seed = 7, out: Path = Path("var/county_simulated.parquet")) -> None:
    """Write a county of households as Parquet."""
    from datasets.credit_limit.county.simulator import write

    with _data_errors():
        summary = write(out, households, seed, progress=True)
    typer.echo(
        f"SIMULATED, nobody in it exists: {summary['rows']:,.0f} households in {summary['villages']:,.0f} villages, "
        f"default rate {summary['default_rate']:.3f}, seed {seed}: {out}"
    )


@simulate.command()
def register(
    companies: int = 20_000,
    seed: Seed = 7,
    hiding: Annotated[float, typer.Option(help="How well the shells hide, 0 to 1.")] = 0.3,
    month: Annotated[int, typer.Option(help="The same companies so many months later.")] = 0,
    out: Path = Path("var/zone"),
) -> None:
    """Write the register of a zone of technology companies as a folder of Parquet files."""
    from datasets.scitech_risk.register.simulator import write

    with _data_errors():
        summary = write(out, companies, seed, hiding, month, progress=True)
    typer.echo(
        f"SIMULATED, none of them exists: {summary['companies']:,.0f} companies, {summary['history']:,.0f} months, "
        f"{summary['links']:,.0f} links, {summary['invoices']:,.0f} invoices, "
        f"default rate {summary['default_rate']:.3f}, shells {summary['shell_rate']:.3f}, seed {seed}: {out}"
    )


@simulate.command()
def slides(
    slides: int = 8,
    columns: Annotated[int, typer.Option(help="Tiles of 256 px.")] = 12,
    rows: Annotated[int, typer.Option(help="Tiles of 256 px.")] = 10,
    mpp: Annotated[float, typer.Option(help="Microns per pixel.")] = 0.5,
    seed: Seed = 7,
    out: Path = Path("var/slides_simulated"),
    planes: Annotated[int, typer.Option(help="Focal planes, 1 um apart, of an OME-TIFF.")] = 1,
) -> None:
    """Write slides with known cells as TIFF, and truth.json."""
    from datasets.slides.simulate.writers import write

    with _data_errors():
        truth_path = write(out, slides, columns, rows, seed, mpp, sys.stderr.isatty(), planes)
    typer.echo(f"SIMULATED, the cells are nobody's: {slides} slides, seed {seed}: {truth_path}")


if __name__ == "__main__":
    use_utf8()
    sys.exit(run_reported(app))
