"""What the notifier knows of channels: whose they are, from when on, and what becomes of a wrong row."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from structlog.testing import capture_logs

from app.notify.channels.channel_book import ChannelBook
from app.notify.retrying import RetryingDatabase, RetryUntilStopped
from app.postgres.queries.user_channels import StoredChannels
from app.settings import Settings
from tests.unit.notify.channels.test_channel import event

MADE = datetime(2026, 11, 21, tzinfo=UTC)
NOW_MS = int((MADE + timedelta(hours=1)).timestamp() * 1000)


@pytest.fixture
def book() -> ChannelBook:
    return ChannelBook(RetryingDatabase(Settings(), "test", RetryUntilStopped(asyncio.Event())))


def row(user: str, *entries: object, made: datetime = MADE) -> StoredChannels:
    return StoredChannels(user, msgspec.json.encode(entries).decode(), made)


def urls(book: ChannelBook, at: int = NOW_MS, **changes: object) -> list[str]:
    return [one.url for one in book.of(event(**changes), at)]  # type: ignore[arg-type]


def test_a_user_has_its_own_channels_and_those_of_all_users_each_once(book: ChannelBook) -> None:
    all_users = row("*", {"url": "all://"}, {"url": "both://", "severity": "critical"})
    book.take([row("alice", {"url": "own://"}, {"url": "both://"}), all_users, row("bob", {"url": "bob://"})])
    assert urls(book) == ["own://", "both://", "all://"]
    assert urls(book, user_id="carol", severity="critical") == ["all://", "both://"]
    book.take([all_users])
    assert urls(book) == ["all://"]


def test_what_was_before_the_channel_is_not_sent_there(book: ChannelBook) -> None:
    book.take([row("alice", {"url": "own://"}), row("*", {"url": "all://"}, made=MADE - timedelta(days=1))])
    before = int(MADE.timestamp() * 1000) - 1
    assert (urls(book, before), urls(book, before + 1)) == (["all://"], ["own://", "all://"])


def test_a_wrong_row_leaves_what_the_user_had_and_is_logged_once(book: ChannelBook) -> None:
    book.take([row("alice", {"url": "own://"})])
    with capture_logs() as logs:
        for _ in range(3):
            book.take([row("alice", {"url": "secret://", "severity": "bad"})])
    assert urls(book) == ["own://"]
    (line,) = logs
    assert (line["event"], line["user_id"]) == ("channels_refused", "alice")
    assert "Invalid enum value 'bad'" in line["error"]
    assert "secret" not in str(line)
