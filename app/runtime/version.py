"""The version of this program, as pyproject.toml has it: an image holds the code alone, and no package's metadata."""

VERSION = "0.1.0"
