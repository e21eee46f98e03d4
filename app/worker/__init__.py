"""The worker process: its composition and its background tasks."""
