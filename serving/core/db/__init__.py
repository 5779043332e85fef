"""The store: schema, reader, writer, migrations."""
