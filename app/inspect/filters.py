"""Which views are shown: by user, device, kind and reason, as the options ask."""

from collections.abc import Collection

from app.core.rules.globs import Globs
from app.inspect.views import RecordView


class ViewFilter:
    """The options of a command; an option that was not given leaves all in, and each given option must fit."""

    def __init__(
        self,
        user: str | None = None,
        device: str | None = None,
        kinds: Collection[str] = (),
        reasons: Collection[str] = (),
    ) -> None:
        """`device` may be a glob. `reasons` are reasons of dead letters, and of records that a worker refuses."""
        self._user, self._devices = user, None if device is None else Globs([device])
        self._kinds, self._reasons = frozenset(kinds), frozenset(reasons)

    def takes(self, view: RecordView) -> bool:
        """Whether a view fits all options that were given, and is to be shown."""
        return (
            self._user in (None, view.user_id)
            and (self._devices is None or self._devices.takes_in(view.device_id))
            and (not self._kinds or view.kind in self._kinds)
            and (not self._reasons or view.reason in self._reasons)
        )
