"""Names, tag values and texts -> their escaped form in line protocol.

Line protocol has no escape for a backslash outside of quotes: before a comma, a blank, an equals sign or another
backslash, and at the end of a name, servers differ in how they read a backslash, so it is written as %5C. Line protocol
has no escape for a line break either: some servers take a line break for the end of the line, even in quotes. A line
break is written as a backslash and n or r, as by other senders; servers store both characters.
"""

import re

_UNSAYABLE = re.compile(r"\\(?=[,= \\]|$)")
_IN_NAME = re.compile(r"([,= ])")
_IN_MEASUREMENT = re.compile(r"([, ])")
_IN_TEXT = re.compile(r'(["\\])')
_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r"})
_BREAKS_AND_TABS = _BREAKS | {ord("\t"): "\\t"}
_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]+").fullmatch


def name(text: str) -> str:
    """The key of a tag or field, or the value of a tag; `text` is not empty."""
    return text if _PLAIN(text) else _IN_NAME.sub(r"\\\1", _sayable(text))


def measurement(text: str) -> str:
    """A measurement; `text` is not empty."""
    made = text if _PLAIN(text) else _IN_MEASUREMENT.sub(r"\\\1", _sayable(text))
    return f"%23{made[1:]}" if made.startswith("#") else made  # else the line would be a comment


def quoted(text: str) -> str:
    """A text as the value of a field, in double quotes."""
    return '"' + _IN_TEXT.sub(r"\\\1", text).translate(_BREAKS) + '"'


def _sayable(text: str) -> str:
    return _UNSAYABLE.sub("%5C", text.translate(_BREAKS_AND_TABS))
