"""Question readers, one format a file."""
