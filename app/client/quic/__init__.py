"""Batches of metrics to the QUIC gateway, from agents on nodes."""
