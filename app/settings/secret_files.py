"""A file with one secret in it: its path in, the secret out."""

from pathlib import Path

from pydantic import SecretStr


def read(path: Path) -> str:
    """Without the line break at its end, and without a byte order mark. Raises OSError, or ValueError: no UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None


def check(path: Path) -> None:
    """Raises ValueError that says why there is no secret to be had. It does not quote the path: somebody may have put
    the secret itself there."""
    try:
        if not path.is_file():
            raise ValueError("no such file: give the path of a file that holds the secret")
        if not read(path):
            raise ValueError("the file is empty")
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None


def secret_of(file: Path | None, value: SecretStr | None) -> str | None:
    """The secret in `file` when one is named, else `value`. Raises as `read` does."""
    if file:
        return read(file)
    return value.get_secret_value() if value else None
