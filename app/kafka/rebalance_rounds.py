"""Which rebalances have begun and which has ended: in, what Faust tells of them; out, whether one is under way.

Faust has one flag for it. A second rebalance may begin, in the thread of the consumer, while the states of the first
are still being recovered, and the end of the first then clears the flag of the second. So they are counted.
"""


class RebalanceRounds:
    """A part of the app: `class App(Rounds, faust.App)`. Numbers of rebalances; the first is 1."""

    rebalancing_count = 0  # the last one that has begun; Faust counts
    joined = 0  # the last one that gave us partitions
    ended = 0  # the last one whose states are recovered and whose positions are found

    @property
    def rebalancing(self) -> bool:
        """Whether one has begun that has not ended."""
        return self.ended != self.rebalancing_count

    @rebalancing.setter
    def rebalancing(self, _: bool) -> None:
        """Nothing: Faust's flag, which does not know whose end it tells."""

    @property
    def superseded(self) -> bool:
        """Whether one has begun since we were given the partitions that we have."""
        return self.joined != self.rebalancing_count
