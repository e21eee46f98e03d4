"""Spans of the worker: what the path reports of its batches becomes one trace a sampled message, and one a batch."""
