"""The accounts of the gateways in PostgreSQL."""
