"""Somebody else's tables of profiles as Plateline's rows: the door of plates that start without images."""

from plateline.tables.source import Source, open_source, read_columns, read_identity, read_metadata

__all__ = ["Source", "open_source", "read_columns", "read_identity", "read_metadata"]
