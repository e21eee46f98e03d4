"""Spans of the worker: what the path tells of its batches becomes one trace a sampled message, and one a batch."""
