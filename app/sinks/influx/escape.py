"""Names, tag values and texts -> the same as line protocol has them.

The protocol knows no escape of a backslash outside of quotes: before a comma, a blank, an equals sign, another
backslash, and at the end of a name a backslash cannot be said. Servers read it differently there, so such a one is
written %5C. Nor has it a line break: where one would be, some servers see the end of a line, in quotes too. It is
written as a backslash and n or r, as other senders do; servers keep both characters.
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
    """The key of a tag or field, or a tag's value; `text` is not empty."""
    return text if _PLAIN(text) else _IN_NAME.sub(r"\\\1", _sayable(text))


def measurement(text: str) -> str:
    """A measurement; `text` is not empty."""
    made = text if _PLAIN(text) else _IN_MEASUREMENT.sub(r"\\\1", _sayable(text))
    return f"%23{made[1:]}" if made.startswith("#") else made  # else the line is a comment


def quoted(text: str) -> str:
    """A text as the value of a field, in double quotes."""
    return '"' + _IN_TEXT.sub(r"\\\1", text).translate(_BREAKS) + '"'


def _sayable(text: str) -> str:
    return _UNSAYABLE.sub("%5C", text.translate(_BREAKS_AND_TABS))
