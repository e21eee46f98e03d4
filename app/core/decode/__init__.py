"""Payload bytes to a Reading or a Fault."""
