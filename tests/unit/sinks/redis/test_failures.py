"""The messages and cures for errors of Redis."""

import ssl

import pytest
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NoConnectionError

from app.sinks.redis.failures import is_cluster, unavailable


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (AuthenticationError("invalid username-password pair or user is disabled."), "IOT_REDIS_URL"),
        (NoPermissionError("this user has no permissions to run the 'evalsha' command"), "ACL"),
        (ResponseError("ERR ACL failure in script: User x has no permissions to run the 'set' command"), "ACL"),
        (ResponseError("The user executing the script can't run this command or subcommand"), "ACL"),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "maxmemory"),
        (ReadOnlyError("You can't write against a read only replica."), "primary"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "disk"),
        (ResponseError("LOADING Redis is loading the dataset in memory"), ""),
        (NoConnectionError("Connection closed by server."), ""),
        (TimeoutError(), ""),
        (ConnectionRefusedError(111, "Connection refused"), ""),
    ],
)
def test_what_to_do(error: Exception, cure: str) -> None:
    found = unavailable(error, "redis:6379")
    assert cure in found.cure
    assert bool(cure) == bool(found.cure)
    assert str(found).startswith("redis:6379: ")
    assert str(found) != "redis:6379: "


def test_tls_names_its_setting() -> None:
    error = NoConnectionError("Error 1 connecting")
    alert = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    alert.reason = "TLSV1_ALERT_UNKNOWN_CA"
    error.__cause__ = alert
    assert "IOT_REDIS_CERTIFICATE_FILE" in str(unavailable(error, "redis:6379"))


def test_a_cluster_is_known_by_its_words() -> None:
    assert is_cluster(ClusterCrossSlotError("Keys in request don't hash to the same slot"))
    assert not is_cluster(ResponseError("ERR something"))
