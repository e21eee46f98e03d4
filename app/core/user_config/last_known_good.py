"""Which configuration of a user is in effect: the present one, or while that is refused the last good one."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from app.core.rules.mutes import compile_mutes, read_mutes
from app.core.rules.rule import InvalidRules
from app.core.user_config.rulebook import RuleBook


class ConfigRevision(NamedTuple):
    """A row of user_configs as it is now."""

    user_id: str
    text: str | None  # the configuration as JSON; None: the user has no configuration any more
    updated_at: datetime
    accepted: str | None = None  # the last configuration that some worker has taken
    mutes: str = "[]"  # what of the user's alerts is muted, as JSON; in effect whatever becomes of the configuration


class RefusedRevision(NamedTuple):
    """A change that is refused, and why."""

    change: ConfigRevision
    reasons: tuple[str, ...]


class LastKnownGood:
    """Keeps a RuleBook. What a user had stays in effect, also in a worker that starts after the mistake was made."""

    def __init__(self, book: RuleBook) -> None:
        self._book = book
        self._taken: set[str] = set()  # users of whom something was taken in this process

    def apply(self, changes: Sequence[ConfigRevision]) -> tuple[list[RefusedRevision], list[ConfigRevision]]:
        """Take what is right; returns what is refused, and what was taken and is not noted as accepted yet. Mutes that
        nobody can read, edited by hand, are refused too, and leave those before.
        """
        refused = {one.user_id: one for one in self._book.apply((one.user_id, one.text) for one in changes)}
        self._fall_back([one for one in changes if one.user_id in refused and one.user_id not in self._taken])
        taken = [one for one in changes if one.user_id not in refused]
        self._taken |= {one.user_id for one in taken}
        self._taken -= {one.user_id for one in taken if one.text is None}
        unnoted = [one for one in taken if one.text is not None and one.text != one.accepted]
        wrong = [RefusedRevision(one, refused[one.user_id].reasons) for one in changes if one.user_id in refused]
        return wrong + list(self._mute(changes)), unnoted

    def _mute(self, changes: Sequence[ConfigRevision]) -> Iterator[RefusedRevision]:
        for one in changes:
            try:
                self._book.mute(one.user_id, compile_mutes(read_mutes(one.mutes)))
            except ValueError as error:
                yield RefusedRevision(one, (f"mutes: {error}",))

    def _fall_back(self, unknown: Sequence[ConfigRevision]) -> None:
        """Take, for users of whom this worker knows nothing, what another worker took before the mistake."""
        earlier = [(one.user_id, one.accepted) for one in unknown if one.accepted is not None]
        failed: list[InvalidRules] = self._book.apply(earlier) if earlier else []
        self._taken |= {user_id for user_id, _ in earlier} - {one.user_id for one in failed}
