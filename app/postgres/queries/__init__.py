"""Everything else that is asked of the database, a file for each table."""
