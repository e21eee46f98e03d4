"""What an error of the database means for the batch at hand: its SQLSTATE in, one of three words out."""

import ssl
from collections.abc import Mapping
from enum import Enum, auto
from typing import TypeVar

import asyncpg

T = TypeVar("T")

# Everything asyncpg and the socket below it raise for a failed call. Whatever else comes up is a bug.
DATABASE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # ConnectionError, TimeoutError, gaierror and SSLError among them
    EOFError,
)


class Failure(Enum):
    """The three kinds of failure, and what is done about each."""

    DATA = auto()  # a row's fault: find it, refuse it alone, store the others
    TRANSIENT = auto()  # an outage: hold the batch, try again
    PERMANENT = auto()  # an operator has to act: hold the batch, try again, and say so


# Longest prefix wins. Codes: https://www.postgresql.org/docs/18/errcodes-appendix.html
_BY_CODE = {
    "08": Failure.TRANSIENT,  # connection
    "21": Failure.DATA,  # cardinality
    "22": Failure.DATA,  # values: range, encoding, JSON syntax
    "22P03": Failure.PERMANENT,  # binary format: program and schema disagree, no row is at fault
    "22P04": Failure.PERMANENT,
    "23": Failure.DATA,  # constraints
    "25": Failure.TRANSIENT,  # 25006 read-only after a failover, 25P03 idle too long
    "40": Failure.TRANSIENT,  # deadlock, serialization
    "44": Failure.DATA,  # WITH CHECK OPTION
    "53": Failure.TRANSIENT,  # disk, memory, connections used up
    "54": Failure.DATA,  # key too large for an index page, JSON too deep for the stack
    "55": Failure.TRANSIENT,  # locked, in use
    "57": Failure.TRANSIENT,  # shutdown, starting up, cancelled by a timeout
    "58": Failure.TRANSIENT,  # the server's file system
    "P0001": Failure.DATA,  # RAISE EXCEPTION in a trigger: the schema's own check
    "P0004": Failure.DATA,  # ASSERT in a trigger
}
_PERMANENT_CLIENT = (
    asyncpg.ClientConfigurationError,
    asyncpg.UnsupportedClientFeatureError,
    asyncpg.UnsupportedServerFeatureError,
    asyncpg.InvalidAuthorizationSpecificationError,
    ssl.SSLCertVerificationError,
)
_ADVICE = {
    "28": "check the account and password in IOT_DATABASE_URL or IOT_DATABASE_PASSWORD_FILE, and pg_hba.conf",
    "3D": "create the database named in IOT_DATABASE_URL, then run `iot-stream db init`",
    "42P01": "the schema is missing: run `iot-stream db init`",
    "42703": "the schema is older than this program: run `iot-stream db init`",
    "42804": "a column's type differs from init.sql: change the column back, or adapt the schema in the code too",
    "42501": "grant the missing right, or run `iot-stream db init` as the owner: it grants iot_worker its rights",
    "08P01": "behind PgBouncer in transaction mode set IOT_DATABASE_STATEMENT_CACHE=false",
    "26": "behind PgBouncer in transaction mode set IOT_DATABASE_STATEMENT_CACHE=false",
    "42P05": "behind PgBouncer in transaction mode set IOT_DATABASE_STATEMENT_CACHE=false",
    "53100": "the database's disk is full: free or add space",
    "53300": "the database has no connection left: raise max_connections, or lower IOT_WRITES_IN_FLIGHT",
    "25006": "the database is read-only: name all hosts in IOT_DATABASE_URL with target_session_attrs=read-write",
}


def classify(error: BaseException) -> Failure:
    """Say what one of DATABASE_ERRORS means. Raises TypeError for any other exception: that is a bug."""
    if isinstance(error, asyncpg.exceptions.InvalidCachedStatementError):
        return Failure.TRANSIENT  # the schema changed under a prepared statement: a new connection prepares it anew
    if isinstance(error, _PERMANENT_CLIENT):
        return Failure.PERMANENT
    if isinstance(error, asyncpg.PostgresError):
        return _longest(_BY_CODE, error.sqlstate or "") or Failure.PERMANENT
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Failure.DATA  # an argument asyncpg cannot encode
    if isinstance(error, DATABASE_ERRORS):
        return Failure.TRANSIENT
    raise TypeError(f"{type(error).__name__} is not an error of the database") from error


def advice(error: BaseException) -> str | None:
    """Tell an operator what to do about an error, or None when waiting is all there is to do."""
    known = _longest(_ADVICE, getattr(error, "sqlstate", None) or "")
    if known:
        return known
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the database's certificate is not trusted: name its CA with sslrootcert= in IOT_DATABASE_URL"
    if classify(error) is Failure.PERMANENT:
        return "waiting does not help: read the database's words and change its set-up or IOT_DATABASE_URL"
    return None


def words(error: BaseException, limit: int = 300) -> str:
    """One line for a human: SQLSTATE, message and detail. The server never puts a password into these."""
    code = getattr(error, "sqlstate", None)
    parts = [getattr(error, "message", None) or str(error), getattr(error, "detail", None)]
    text = "; ".join(" ".join(part.split()) for part in parts if part) or type(error).__name__
    text = f"{type(error).__name__}: {text}" if code is None else f"{code} {text}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _longest(table: Mapping[str, T], code: str) -> T | None:
    return next((table[code[:n]] for n in (5, 2) if code[:n] in table), None)
