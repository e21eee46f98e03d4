"""The schema of the database: init.sql, the table check, migrations."""
