"""What all connections of a QUIC gateway share."""

from msgspec import Struct

from app.gateways.intake import Intake
from app.gateways.quic.batch import BatchIntake
from app.gateways.quic.reserve import Reserve
from app.gateways.quic.share import Crowd, Share
from app.gateways.quic.turns import Turns
from app.ports import Accounts


class Site(Struct):
    """Of one gateway."""

    intake: Intake
    accounts: Accounts
    batches: BatchIntake
    reserve: Reserve
    share: Share  # of memory and connections
    crowd: Crowd
    turns: Turns
    frame_bytes: int
    frame_seconds: float
    unacked_bytes: int  # of one connection
    again_seconds: float  # after so many the account is looked up anew
    stopping: bool = False
