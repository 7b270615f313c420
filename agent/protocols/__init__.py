"""Protocol tables, one a file."""
