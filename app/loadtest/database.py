"""The database of a run: users are made there, workers take their rules, rows are checked, the users removed."""

import asyncio
import time

from app.core.model.times import moment
from app.loadtest.check import RunCheck
from app.loadtest.findings import Findings
from app.loadtest.plan import RULES, LoadPlan
from app.loadtest.senders import Senders
from app.postgres.connect import operator_session
from app.postgres.queries import load_users
from app.runtime.interrupt import set_within
from app.settings import Settings

RULES_SECONDS = 30.0  # for a worker to take the rules
LONG_STATEMENT = 3600.0  # seconds; the check reads all rows of the run


class LoadDatabase:
    """What a run does in its database before and after the sending. All of it raises TransientError when the database
    is away, PermanentError when it refuses.
    """

    def __init__(self, settings: Settings, plan: LoadPlan) -> None:
        self.settings, self._plan = settings, plan
        self._made = False

    async def prepare(self, password: str | None) -> None:
        """Make the users: rules, and accounts where there is a `password` for them. Users that exist are left alone."""
        if not self._plan.own_users:
            async with operator_session(self.settings, "load"):
                return  # it answers, and will do so later
        async with operator_session(self.settings, "load") as connection, connection.transaction():
            await load_users.give_rules(connection, self._plan.users, RULES)
            if password is not None:
                await load_users.register(connection, self._plan.users, password)
            self._made = True  # before COMMIT: who is stopped while it is under way removes them

    async def rules_taken(self, stop: asyncio.Event) -> bool:
        """Wait until the workers have the rules; False when none has taken them within RULES_SECONDS."""
        if not self._plan.own_users:
            return True
        deadline = time.monotonic() + RULES_SECONDS
        async with operator_session(self.settings, "load") as connection:
            while await load_users.taken(connection, self._plan.users) < len(self._plan.users):
                if time.monotonic() > deadline or await set_within(stop, 0.1):
                    return False
        await set_within(stop, 2 * self.settings.rules_poll)  # the first worker has noted it; the others ask as often
        return True

    async def check(self, senders: Senders) -> Findings:
        """Compare all rows and alerts with what was sent."""
        patient = self.settings.model_copy(update={"database_timeout": LONG_STATEMENT})
        async with operator_session(patient, "load check") as connection:
            return await RunCheck(self._plan, senders.devices).look(connection)

    async def remove(self, purge: bool) -> None:
        """Remove the users that `prepare` has made; with `purge` also the readings of the run and its alert history."""
        if not self._made:
            return
        patient = self.settings.model_copy(update={"database_timeout": LONG_STATEMENT})
        async with operator_session(patient, "load") as connection:
            await load_users.forget(connection, self._plan.users)
            if purge:
                begin, end = self._plan.span_us
                await load_users.purge(connection, self._plan.users, moment(begin), moment(end))
        self._made = False
