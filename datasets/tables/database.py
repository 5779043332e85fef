"""Read a table, or the rows of a query, from a database by its SQLAlchemy address."""

from __future__ import annotations

import polars as pl

from datasets.errors import UnreadableFileError


def is_address(text: str) -> bool:
    """Whether a text is the address of a database, such as postgresql+psycopg://reader@host/loans."""
    return "://" in text


def read_query(address: str, query: str) -> pl.DataFrame:
    """The rows of a query, or of a table where `query` is its name alone. Raises UnreadableFileError.

    The password comes from the address or, better, from the driver's own place (PGPASSWORD, ~/.pgpass).
    """
    import sqlalchemy as sa

    visible = address.partition("://")[0]
    try:
        url = sa.make_url(address)
        visible = url.render_as_string(hide_password=True)
        engine = sa.create_engine(url)
    except Exception as error:
        raise UnreadableFileError(
            f"{visible}: is no address of a database: {_reason(error)}.",
            f"{visible}：不是有效的数据库地址（{_reason(error)}）。",
        ) from error
    try:
        with engine.connect() as connection:
            names = sa.inspect(connection).get_table_names() + sa.inspect(connection).get_view_names()
            if not query.strip():
                tables = ", ".join(sorted(names)[:20])
                raise UnreadableFileError(
                    f"{visible}: no table is named. Name one, or a query, in `query`. Tables: {tables}.",
                    f"{visible}：未指明数据表。请在 query 中写表名或查询语句。现有数据表：{tables}。",
                )
            statement = sa.select(sa.text("*")).select_from(sa.table(query)) if query in names else sa.text(query)
            return pl.read_database(statement, connection, infer_schema_length=None)
    except (sa.exc.SQLAlchemyError, pl.exceptions.PolarsError) as error:
        raise UnreadableFileError(
            f"{visible}: the query failed: {_reason(error)}. Correct it, or the address.",
            f"{visible}：查询失败（{_reason(error)}），请更正查询语句或地址。",
        ) from error
    finally:
        engine.dispose()


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
