"""`module:Struct` -> the Schema of that struct."""

import importlib
import sys
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from app.core.schema.schema import Schema, schema_of
from app.errors import SettingsError

_RIGHT = "give module:Struct, for example mydata:Parcel for the class Parcel of mydata.py here or on PYTHONPATH"


@lru_cache(maxsize=8)
def named(name: str) -> Schema:
    """The schema of the struct `module:Struct`; the module is imported, the working directory is looked in after
    PYTHONPATH. Raises SettingsError for a name without both parts, a module that cannot be imported, and what is no
    msgspec.Struct or has a field that cannot be a column.
    """
    module, _, struct = name.partition(":")
    if not module or not struct:
        raise SettingsError(f"{name!r} names no struct; {_RIGHT}")
    if (directory := str(Path.cwd())) not in sys.path:
        sys.path.append(directory)
    try:
        found = getattr(importlib.import_module(module), struct, None)
    except (ImportError, SyntaxError, NameError, TypeError) as error:
        raise SettingsError(f"{name}: cannot import {module}: {error}; {_RIGHT}") from error
    if not isinstance(found, type) or not issubclass(found, Struct):
        raise SettingsError(f"{name}: {struct} is no msgspec.Struct of {module}; {_RIGHT}")
    return schema_of(found)
