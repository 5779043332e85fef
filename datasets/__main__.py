"""What is known of the data, for those outside.

python -m datasets croissant taiwan --out taiwan.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from datasets.text_encoding import use_utf8

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.callback()
def _main() -> None:
    """So that a single command keeps its name."""


@app.command()
def croissant(
    name: Annotated[str, typer.Argument(help="a source, as a config names it")],
    out: Annotated[Path | None, typer.Option(help="else it is printed")] = None,
    file: Annotated[Path | None, typer.Option(help="the file itself, where the contract describes no one file")] = None,
) -> None:
    """Describe a data set as Croissant JSON-LD: file and digest, columns with units and ranges, licence, origin."""
    from datasets.croissant import describe_source
    from datasets.errors import DataError

    try:
        document = json.dumps(describe_source(name, file), ensure_ascii=False, indent=1)
    except DataError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if out is None:
        typer.echo(document)
    else:
        out.write_text(document + "\n", encoding="utf-8")


if __name__ == "__main__":
    use_utf8()
    app()
