"""Tracing: from standard OTEL_* variables to spans over OTLP; without them nothing of OpenTelemetry is imported.

A program calls `start_tracing` (start.py) once and hands on the result: a Tracing (tracing.py).
"""
