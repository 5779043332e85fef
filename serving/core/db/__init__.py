"""The store: tables, migrations, reader and writer."""
