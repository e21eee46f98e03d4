"""What an error of the database means for the batch at hand: its SQLSTATE in, one of three words out.

docs/store.md shows KNOWN to operators; `make docs` writes the table.
"""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

import asyncpg

from app.errors import PermanentError, TransientError

# Everything that asyncpg and the socket below raise for a failed call. Any other exception is a bug.
DATABASE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # ConnectionError, TimeoutError, gaierror and SSLError among them
    EOFError,
)


class Failure(Enum):
    """The three kinds of failure, and what the store does about each."""

    DATA = "data"  # a row's fault: find the row, refuse it alone, store the others
    TRANSIENT = "transient"  # an outage: hold the batch, try again
    PERMANENT = "permanent"  # an operator has to act: hold the batch, try again, and say so


class SqlstateMeaning(NamedTuple):
    """What a SQLSTATE means here; `advice`: what an operator does about the error, where waiting may not be enough."""

    failure: Failure
    meaning: str
    advice: str | None = None


_DATA, _TRANSIENT, _PERMANENT = Failure
_BOUNCER = "behind PgBouncer in transaction mode set IOT_DATABASE_STATEMENT_CACHE=false"

# By class or code; the longest wins. Codes: https://www.postgresql.org/docs/18/errcodes-appendix.html
KNOWN: Mapping[str, SqlstateMeaning] = {
    "08": SqlstateMeaning(_TRANSIENT, "the connection broke, or cannot be made"),
    "08P01": SqlstateMeaning(
        _TRANSIENT, "protocol; what PgBouncer itself says (`unsupported startup parameter`)", _BOUNCER
    ),
    "21": SqlstateMeaning(_DATA, "cardinality"),
    "22": SqlstateMeaning(_DATA, "a value does not fit: range, encoding, JSON syntax"),
    "22P03": SqlstateMeaning(_PERMANENT, "binary format: program and schema disagree, no row is at fault"),
    "22P04": SqlstateMeaning(_PERMANENT, "COPY format: program and schema disagree, no row is at fault"),
    "23": SqlstateMeaning(_DATA, "a constraint: NOT NULL, CHECK, foreign key, exclusion"),
    "25": SqlstateMeaning(_TRANSIENT, "state of the transaction, such as idle for too long"),
    "25006": SqlstateMeaning(
        _TRANSIENT,
        "read-only: a standby after a fail-over, or set so",
        "name all hosts in IOT_DATABASE_URL with target_session_attrs=read-write, or end the read-only mode",
    ),
    "26": SqlstateMeaning(_PERMANENT, "a prepared statement is not there", _BOUNCER),
    "28": SqlstateMeaning(
        _PERMANENT,
        "the account or its password is refused",
        "check the account and password in IOT_DATABASE_URL or IOT_DATABASE_PASSWORD_FILE, and pg_hba.conf; where that "
        "wants encryption, IOT_DATABASE_TLS, and where it wants a certificate, IOT_DATABASE_CERTIFICATE_FILE",
    ),
    "3D": SqlstateMeaning(
        _PERMANENT,
        "the database does not exist",
        "create the database named in IOT_DATABASE_URL, then run `iot-stream db init`",
    ),
    "40": SqlstateMeaning(_TRANSIENT, "deadlock, serialization failure"),
    "42501": SqlstateMeaning(
        _PERMANENT,
        "a right is missing",
        "grant the missing right, or run `iot-stream db init` as the owner: it grants iot_worker its rights",
    ),
    "42703": SqlstateMeaning(
        _PERMANENT, "a column is missing", "the schema is older than this program: run `iot-stream db init`"
    ),
    "42804": SqlstateMeaning(
        _PERMANENT,
        "a column has another type",
        "a column's type differs from init.sql: change the column back, or adapt the schema in the code too",
    ),
    "42P01": SqlstateMeaning(_PERMANENT, "a table is missing", "the schema is missing: run `iot-stream db init`"),
    "42P05": SqlstateMeaning(_PERMANENT, "a prepared statement is there already", _BOUNCER),
    "44": SqlstateMeaning(_DATA, "WITH CHECK OPTION of a view"),
    "53": SqlstateMeaning(_TRANSIENT, "disk, memory or connections are used up"),
    "53100": SqlstateMeaning(_TRANSIENT, "the disk is full", "the database's disk is full: free or add space"),
    "53300": SqlstateMeaning(
        _TRANSIENT,
        "no connection is left",
        "the database has no connection left: raise max_connections, or lower IOT_WRITES_IN_FLIGHT",
    ),
    "53400": SqlstateMeaning(
        _TRANSIENT,
        "a configured limit; for late rows TimescaleDB's tuple decompression limit",
        "raise timescaledb.max_tuples_decompressed_per_dml_transaction for the worker's role, or decompress the chunks "
        "that late rows go to",
    ),
    "54": SqlstateMeaning(_DATA, "a value too large for an index page, JSON too deep for the stack"),
    "55": SqlstateMeaning(_TRANSIENT, "locked (lock_timeout), in use"),
    "57": SqlstateMeaning(_TRANSIENT, "shutdown, starting up, cancelled by statement_timeout"),
    "58": SqlstateMeaning(_TRANSIENT, "the server's file system"),
    "P0001": SqlstateMeaning(_DATA, "RAISE EXCEPTION in a trigger: the schema's own check"),
    "P0004": SqlstateMeaning(_DATA, "ASSERT in a trigger"),
}
LIMIT_REACHED = "53400"
_READ_IT = "waiting does not help: read the database's words and change its set-up or IOT_DATABASE_URL"
UNKNOWN = SqlstateMeaning(_PERMANENT, "anything else, such as XX000 (internal error)", _READ_IT)

# Errors of late rows: the database is well, only these rows wait for a lock or take too much decompression.
_OF_LATE_ROWS = ("40", "53400", "55", "57014")
_PERMANENT_CLIENT = (
    asyncpg.ClientConfigurationError,
    asyncpg.UnsupportedClientFeatureError,
    asyncpg.UnsupportedServerFeatureError,
    asyncpg.InvalidAuthorizationSpecificationError,
    ssl.SSLCertVerificationError,
)


def classify(error: BaseException) -> Failure:
    """What one of DATABASE_ERRORS means. Raises TypeError for any other exception, which is a bug."""
    if isinstance(error, asyncpg.exceptions.InvalidCachedStatementError):
        return Failure.TRANSIENT  # the schema changed under a prepared statement: a new connection prepares it anew
    if isinstance(error, _PERMANENT_CLIENT):
        return Failure.PERMANENT
    if isinstance(error, asyncpg.PostgresError):
        return (_known(error) or UNKNOWN).failure
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Failure.DATA  # an argument asyncpg cannot encode
    if isinstance(error, DATABASE_ERRORS):
        return Failure.TRANSIENT
    raise TypeError(f"{type(error).__name__} is not an error of the database") from error


def advice(error: BaseException) -> str | None:
    """What an operator has to do about an error; None when waiting is all there is to do."""
    known = _known(error)
    if known and known.advice:
        return known.advice if known is not KNOWN["08P01"] or "startup parameter" in str(error) else None
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "the database's certificate is not trusted, or is for another name: name its CA in IOT_DATABASE_CA_FILE "
            "(sslrootcert= in IOT_DATABASE_URL), and the host as the certificate has it"
        )
    if "rejected SSL upgrade" in str(error):
        return "the database takes no TLS: switch it on there (ssl = on), or off here (IOT_DATABASE_TLS)"
    return _READ_IT if classify(error) is Failure.PERMANENT else None


@contextmanager
def translated(what: str, cure: str | None = None) -> Iterator[None]:
    """DATABASE_ERRORS of the block -> TransientError or PermanentError: `what`, the database's words, what to do.

    `cure` is what to do where the error itself does not say.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        kind = TransientError if classify(error) is Failure.TRANSIENT else PermanentError
        raise kind("; ".join(filter(None, (f"{what}: {words(error)}", advice(error) or cure)))) from error


def limit_reached(error: BaseException) -> bool:
    """Whether fewer rows at a time may succeed: TimescaleDB's decompression limit."""
    return getattr(error, "sqlstate", None) == LIMIT_REACHED


def of_late_rows(error: BaseException) -> bool:
    """Whether late rows can be the reason, so that live rows may well be stored meanwhile."""
    return (getattr(error, "sqlstate", None) or "").startswith(_OF_LATE_ROWS)


def unreachable(error: BaseException) -> bool:
    """Whether no server answers, or the server only says that it shuts down or starts up."""
    code = getattr(error, "sqlstate", None)
    return isinstance(error, DATABASE_ERRORS) and (code is None or code.startswith(("08", "57P")))


def words(error: BaseException, limit: int = 300) -> str:
    """The error as one line of at most `limit` characters for a human: SQLSTATE, message and detail.

    The server never puts a password into these.
    """
    code = getattr(error, "sqlstate", None)
    parts = [getattr(error, "message", None) or str(error), getattr(error, "detail", None)]
    nothing = "no answer in time" if isinstance(error, TimeoutError) else "no reason given"
    text = "; ".join(" ".join(part.split()) for part in parts if part) or nothing
    text = f"{type(error).__name__}: {text}" if code is None else f"{code} {text}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _known(error: BaseException) -> SqlstateMeaning | None:
    code = getattr(error, "sqlstate", None) or ""
    return next((KNOWN[code[:n]] for n in (5, 2) if code[:n] in KNOWN), None)
