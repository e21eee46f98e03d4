"""The exceptions this project raises itself.

IotStreamError
├── SettingsError         wrong settings; the message names every one of them
│   ├── MachineError      a port or a path that a setting names cannot be used on this machine
│   ├── SinkMisconfigured a destination can never take anything as its sink is set  (app/sinks/port.py)
│   └── RunsAlreadyError  the same command runs already  (app/deadletters/sole_replay.py)
├── TransientError        an outage: wait, try again, hold the offsets      (never a dead letter)
│   ├── WireError         what a peer sent is not its protocol: close the connection and connect again
│   │   └── MalformedBatch  bytes of a sender are no batch that is taken (app/gateways/protobuf_batches.py)
│   ├── NotAckedError     no ack of a gateway for as long as a client had patience (app/client/failures.py)
│   ├── SinkUnavailable   a destination of a sink takes nothing now         (app/sinks/port.py)
│   └── NotTakenError     the MQTT broker refuses the account               (app/mqtt/connection.py)
├── PermanentError        a missing table, topic or right: hold the offsets and say what an operator must do
│   ├── GatewayRefusedError  a gateway refuses a client's call                    (app/client/failures.py)
│   ├── PatchError        a JSON Patch is not one, or does not fit        (app/deadletters/json_patch.py)
│   └── PartError         a topic does not have that part                 (app/kafka/reading/offset_ranges.py)
├── StoppedError          the notifier or the webhook stops in an outage    (app/notify/retrying.py)
├── EncodingError         a row's value does not fit its column's type      (app/postgres/store/encode_check.py)
├── LimitReachedError     rows of a live write go where late rows go: fewer of them at a time
├── _NotAllNewError       writes in one transaction have a duplicate: roll back (app/postgres/store/session.py)
├── _LeftOutError         a trigger has left rows out of a COPY: roll back (app/postgres/store/direct_copy.py)
├── _MissingError         Tempo has no such trace, or no such address       (app/inspect/tempo.py)
├── BooksError            a record of a batch is not accounted for, or twice: a bug   (crash)
├── DeadLetterLimitError  too many dead letters: none of the batch is sent, the worker ends with exit code 3
├── StreamGapError        batches of a partition do not follow one another  (seek back once, then crash)
└── StuckOffsetError      an offset head does not move                      (exit the process)

The file is named where an exception is one adapter's own.
A record that can never be stored is not an exception but a value: app.core.model.records.Rejected.
Anything else that is raised is a bug and crashes the worker with its offsets un-acked.
"""


class IotStreamError(Exception):
    """Root of the tree; catch it only where a process starts."""


class SettingsError(IotStreamError):
    """Settings cannot be used; str() lists each wrong one with its value's problem."""


class MachineError(SettingsError):
    """This machine refuses a port, a file or a directory that a setting names; str() says which, and the cure."""


class TransientError(IotStreamError):
    """An outage of a dependency: the same call may succeed later."""


class WireError(TransientError):
    """A peer sent bytes that are not its protocol; str() says which part."""


class PermanentError(IotStreamError):
    """The dependency answers and refuses: an operator has to act; str() says how."""


class LimitReachedError(IotStreamError):
    """A live write meets TimescaleDB's decompression limit: its rows are stored as late ones are, in small pieces."""


class BooksError(IotStreamError):
    """The books of a batch do not balance; str() holds both sides."""


class DeadLetterLimitError(IotStreamError):
    """More records cannot be stored than a few bad devices explain; str() says which, why, and what to do."""


class StreamGapError(IotStreamError):
    """A batch does not start where the one before it ended."""


class StuckOffsetError(IotStreamError):
    """A partition's oldest un-acked batch is nowhere in work and its offset does not move."""
