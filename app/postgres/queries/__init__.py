"""Everything else that is asked of the database, one table a file."""
