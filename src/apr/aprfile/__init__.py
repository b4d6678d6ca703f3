"""The .apr container: layout, reader, writer."""
