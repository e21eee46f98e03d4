"""Which rebalances have begun and which has ended: in, what Faust reports of them; out, whether one is under way.

Faust has one flag for all rebalances. A second rebalance may begin, in the thread of the consumer, while the states of
the first are still being recovered, and the end of the first then clears the flag of the second. So rebalances are
counted.
"""


class RebalanceRounds:
    """A part of the app: `class App(RebalanceRounds, faust.App)`. Numbers of rebalances; the first is 1."""

    rebalancing_count = 0  # the last rebalance that has begun; Faust counts
    joined = 0  # the last rebalance that gave us partitions
    ended = 0  # the last rebalance whose states are recovered and whose positions are found

    @property
    def rebalancing(self) -> bool:
        """Whether a rebalance has begun that has not ended."""
        return self.ended != self.rebalancing_count

    @rebalancing.setter
    def rebalancing(self, _: bool) -> None:
        """Do nothing: Faust's flag does not know which rebalance has ended."""

    @property
    def superseded(self) -> bool:
        """Whether a rebalance has begun since the rebalance that gave us our partitions."""
        return self.joined != self.rebalancing_count
