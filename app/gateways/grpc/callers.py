"""Who may be served: in, a call and what it wants; out, its answer, or the status of its refusal.

A call that only asks how the gateway does, or that it flushes, needs no account on the UNIX socket: whoever may open
the socket may ask.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import grpc

from app.gateways.grpc.identity import UNIX, CallerIdentity, peer_of
from app.gateways.grpc.refusal import CallRefusal, Context, refuse
from app.ports import Account

TOO_MANY = CallRefusal(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_calls", "too many calls at a time: wait for answers", 1.0
)

Answer: TypeAlias = bytes | CallRefusal | None  # None: the call has no message of its own for an answer


class CallSlots:
    """How many calls may be under way, in all and of each user.

    This bounds their memory too: gRPC keeps what has come of a message, however slowly, for each that is being read.
    """

    def __init__(self, most: int, of_one: int) -> None:
        """At most `most` calls at a time, and `of_one` of one user."""
        self._most, self._of_one = most, of_one
        self._taken = 0
        self._by_user: Counter[str] = Counter()

    @contextmanager
    def one(self, user: str) -> Iterator[bool]:
        """Whether this account may have one more, for as long as it lasts."""
        if self._taken >= self._most or self._by_user[user] >= self._of_one:
            yield False
            return
        self._taken += 1
        self._by_user[user] += 1
        try:
            yield True
        finally:
            self._taken -= 1
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]


class Callers:
    """Lets the callers of one gateway in."""

    def __init__(self, identity: CallerIdentity, slots: CallSlots) -> None:
        self._identity, self._slots = identity, slots

    async def account(self, context: Context) -> Account | CallRefusal:
        """Whose a call is, or why it is refused."""
        return await self._identity.caller(context)

    async def serve(self, context: Context, work: Callable[[Account], Awaitable[Answer]]) -> bytes | None:
        """What `work` makes of a call with an account. Ends the call with its status when it is refused: raises as
        `refuse`.
        """
        found = await self._identity.caller(context)
        if isinstance(found, CallRefusal):
            await refuse(context, found)
        return await self._within(context, found.user_id, lambda: work(found))

    async def serve_anybody(self, context: Context, work: Callable[[], Awaitable[Answer]]) -> bytes | None:
        """What `work` makes of a call that anybody on the UNIX socket may make, and elsewhere those with an account.
        Raises as `refuse` when it is refused.
        """
        user = peer_of(context)
        if user != UNIX:
            found = await self._identity.caller(context)
            if isinstance(found, CallRefusal):
                await refuse(context, found)
            user = found.user_id
        return await self._within(context, user, work)

    async def _within(self, context: Context, user: str, work: Callable[[], Awaitable[Answer]]) -> bytes | None:
        with self._slots.one(user) as free:
            answer = await work() if free else TOO_MANY
        return await refuse(context, answer) if isinstance(answer, CallRefusal) else answer
