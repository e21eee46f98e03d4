"""Schemas of other trades, each with rules and readings: docs/adapting.md. The tests run them."""
