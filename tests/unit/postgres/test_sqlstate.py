"""Every error asyncpg knows is mapped, and to the right kind."""

import ast
import asyncio
import inspect
import socket
import ssl
from pathlib import Path

import asyncpg
import pytest

from app.errors import PermanentError, TransientError
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, advice, classify, translated, words

NAMED = {
    name: error
    for name, error in vars(asyncpg.exceptions).items()
    if inspect.isclass(error) and issubclass(error, Exception) and not issubclass(error, Warning)
}


def failed(sqlstate: str, message: str = "no", **fields: str) -> asyncpg.PostgresError:
    """An error as it comes from the server."""
    return asyncpg.PostgresError.new({"C": sqlstate, "M": message, "S": "ERROR", **fields})


@pytest.mark.parametrize("error", NAMED.values(), ids=NAMED)
def test_every_class_of_asyncpg_is_mapped(error: type[Exception]) -> None:
    made = error.__new__(error)
    Exception.__init__(made, "no")
    assert isinstance(made, DATABASE_ERRORS)
    assert isinstance(classify(made), Failure)


def test_the_list_is_the_whole_list() -> None:
    assert len(NAMED) > 200


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("22003", Failure.DATA),  # number out of range
        ("22021", Failure.DATA),  # NUL in text
        ("22P02", Failure.DATA),  # JSON syntax
        ("22P05", Failure.DATA),  # \u0000 in JSON
        ("23502", Failure.DATA),  # NULL in NOT NULL
        ("23514", Failure.DATA),  # CHECK
        ("54000", Failure.DATA),  # key larger than an index page takes
        ("54001", Failure.DATA),  # JSON too deep
        ("P0001", Failure.DATA),  # a trigger's own check
        ("08006", Failure.TRANSIENT),
        ("25006", Failure.TRANSIENT),  # read-only after a failover
        ("40001", Failure.TRANSIENT),
        ("40P01", Failure.TRANSIENT),  # deadlock
        ("53100", Failure.TRANSIENT),  # disk full
        ("53300", Failure.TRANSIENT),  # too many connections
        ("55P03", Failure.TRANSIENT),  # lock not available
        ("57014", Failure.TRANSIENT),  # cancelled by a timeout
        ("57P01", Failure.TRANSIENT),  # shutdown
        ("57P03", Failure.TRANSIENT),  # starting up
        ("22P03", Failure.PERMANENT),  # binary format: no row's fault
        ("28P01", Failure.PERMANENT),  # password
        ("3D000", Failure.PERMANENT),  # no such database
        ("42P01", Failure.PERMANENT),  # no such table
        ("42501", Failure.PERMANENT),  # rights
        ("XX000", Failure.PERMANENT),  # internal error
        ("ZZ999", Failure.PERMANENT),  # nobody knows
    ],
)
def test_the_servers_errors(sqlstate: str, kind: Failure) -> None:
    assert classify(failed(sqlstate)) is kind
    assert (advice(failed(sqlstate)) is not None) or kind is not Failure.PERMANENT


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.InterfaceError("connection is closed"), Failure.TRANSIENT),
        (asyncpg.DataError("value out of int64 range"), Failure.DATA),
        (asyncpg.exceptions.InvalidCachedStatementError("changed"), Failure.TRANSIENT),
        (asyncpg.ClientConfigurationError("invalid DSN"), Failure.PERMANENT),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle"), Failure.TRANSIENT),
        (ConnectionRefusedError(111, "refused"), Failure.TRANSIENT),
        (socket.gaierror(-2, "unknown host"), Failure.TRANSIENT),
        (TimeoutError(), Failure.TRANSIENT),
        (asyncio.IncompleteReadError(b"", 1), Failure.TRANSIENT),
        (ssl.SSLCertVerificationError(1, "self-signed"), Failure.PERMANENT),
    ],
)
def test_the_clients_errors(error: Exception, kind: Failure) -> None:
    assert classify(error) is kind


def test_advice_goes_by_the_longest_code() -> None:
    assert "db init" in (advice(failed("42P01")) or "")
    assert "PgBouncer" in (advice(failed("08P01", "unsupported startup parameter: jit")) or "")
    assert advice(failed("08P01", "query_wait_timeout")) is None
    assert "disk" in (advice(failed("53100")) or "")
    assert advice(failed("08006")) is None
    assert advice(ConnectionRefusedError()) is None


def test_a_bug_is_no_failure_of_the_database() -> None:
    with pytest.raises(TypeError):
        classify(KeyError("x"))


def test_words_are_one_short_line() -> None:
    text = words(failed("22P02", "invalid\ninput", D="Token\n" + "x" * 1000))
    assert text.startswith("22P02 invalid input; Token x")
    assert len(text) == 300
    assert "\n" not in text
    assert words(TimeoutError()) == "TimeoutError: no answer in time"
    assert words(ConnectionResetError()) == "ConnectionResetError: no reason given"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (failed("57P01", "shutdown"), TransientError, "db init: 57P01 shutdown"),
        (failed("3D000", "none"), PermanentError, "db init: 3D000 none; create the database named in IOT_DATABASE_URL"),
        (failed("22003", "range"), PermanentError, "db init: 22003 range"),
        (
            ConnectionRefusedError(111, "refused"),
            TransientError,
            "db init: ConnectionRefusedError: ",
        ),
    ],
)
def test_an_error_of_the_database_becomes_one_of_this_project(
    error: Exception, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as raised, translated("db init"):
        raise error
    assert str(raised.value).startswith(text)
    assert raised.value.__cause__ is error


def test_the_callers_cure_is_for_an_error_without_one() -> None:
    with pytest.raises(TransientError, match=r"refused; is it up\?$"), translated("it", "is it up?"):
        raise ConnectionRefusedError("refused")
    with pytest.raises(TransientError, match=r"free or add space$"), translated("it", "is it up?"):
        raise failed("53100")
    with pytest.raises(KeyError), translated("it"):
        raise KeyError("a bug")


def test_nobody_but_the_adapter_knows_the_errors_of_asyncpg() -> None:
    app = Path(__file__).parents[3] / "app"
    for path in app.rglob("*.py"):
        if path.relative_to(app).parts[0] != "postgres":
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert "asyncpg" not in names, path
