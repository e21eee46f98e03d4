"""Metrics, logs, the health page and operational events."""
