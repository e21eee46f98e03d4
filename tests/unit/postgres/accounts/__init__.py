"""Accounts of the gateways, without a database."""
