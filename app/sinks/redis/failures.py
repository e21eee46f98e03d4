"""An error of the Redis client -> SinkUnavailable, with what an operator has to do about the error."""

import ssl

from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from app.core.model.fault import printable
from app.runtime import tls
from app.sinks.port import SinkUnavailable

_ACCOUNT = "look at the account in IOT_REDIS_URL and IOT_REDIS_PASSWORD_FILE, and its ACL (docs/sinks.md)"
# In the messages of Redis 7 and Redis 6 about a command within a script.
_OF_SCRIPTS = ("The user executing the script", "ACL failure", "NOPERM")
# By the first word of an answer for which the library has no class.
_CURES = {
    "MISCONF": "Redis cannot write to its disk: see its log",
    "NOAUTH": _ACCOUNT,
    "WRONGPASS": _ACCOUNT,
    "NOPERM": _ACCOUNT,
    "OOM": "raise maxmemory of Redis, set IOT_REDIS_TTL, or let Redis evict (maxmemory-policy)",
    "READONLY": "the server is a replica: set IOT_REDIS_URL to the primary",
}


def unavailable(error: BaseException, where: str) -> SinkUnavailable:
    """The exception for this error. Quotes no password: Redis repeats none, and the URL is not quoted."""
    if isinstance(error, ssl.SSLError):
        return SinkUnavailable(tls.words(error, where, "IOT_REDIS"))
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError):
        return SinkUnavailable(tls.words(cause, where, "IOT_REDIS"))
    said = words(error)
    return SinkUnavailable(f"{where}: {said}", cure=cure(error, said))


def cure(error: BaseException, said: str) -> str:
    """What an operator has to do; "" when waiting helps. `said` is the server's message."""
    if isinstance(error, AuthenticationError | NoPermissionError) or any(words in said for words in _OF_SCRIPTS):
        return _ACCOUNT
    if isinstance(error, ReadOnlyError):
        return _CURES["READONLY"]
    if isinstance(error, OutOfMemoryError):
        return _CURES["OOM"]
    return _CURES.get(said.partition(" ")[0], "") if isinstance(error, ResponseError) else ""


def is_cluster(error: BaseException) -> bool:
    """Whether the server is a node of a cluster, by its error for keys of two slots."""
    return isinstance(error, ClusterCrossSlotError | ClusterDownError | MovedError) or "CROSSSLOT" in str(error)


def words(error: BaseException) -> str:
    """The message of the error, on one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(said or type(error).__name__, 300)
