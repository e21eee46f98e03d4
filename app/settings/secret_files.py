"""A file with one secret in it: its path in, the secret out."""

from pathlib import Path

from pydantic import SecretStr


def read(path: Path) -> str:
    """The text of the file without blanks and line breaks at both ends, and without a byte order mark.

    Raises OSError when the file cannot be read, ValueError when it is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None


def check(path: Path) -> None:
    """Return when the file holds a secret. Raises ValueError that says why there is none to be had: no such file, an
    empty or unreadable file. The error does not quote the path: somebody may have put the secret itself there.
    """
    try:
        if not path.is_file():
            raise ValueError("no such file: give the path of a file that holds the secret")
        if not read(path):
            raise ValueError("the file is empty")
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None


def secret_of(file: Path | None, value: SecretStr | None) -> str | None:
    """The secret in `file` when one is named, else `value`; None: there is neither. Raises as `read` does."""
    if file:
        return read(file)
    return value.get_secret_value() if value else None
