"""Settings of every program, where they come from, and the schema struct by name."""

from app.settings.settings import Settings, load

__all__ = ["Settings", "load"]
