"""Logins at the gateways, without a server."""
