"""How a program ends: the exit codes; and an error in, out: the line that is printed for it, and its exit code."""

import errno
import os
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from app.errors import DeadLetterLimitError, IotStreamError, SettingsError


class ExitCode(IntEnum):
    """What a program or command ends with."""

    DONE = 0
    FAILED = 1
    WRONG = 2
    DEAD_LETTERS = 3
    STOP_GIVEN_UP = 75  # EX_TEMPFAIL of sysexits.h: start the process again, there is nothing to mend
    INTERRUPTED = 130


# docs/exit-codes.md is made of these words.
MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.DONE: "done, or healthy; of a program: it was stopped by SIGTERM or SIGINT, and has finished its work",
    ExitCode.FAILED: "failed, not healthy, or not found: a server is away or refuses, a disk is full, rows are gone; "
    "one line says what",
    ExitCode.WRONG: "wrong arguments or settings, or what a setting names cannot be used on this machine: a port is "
    "taken, a directory cannot be written; a line for each says what would be right, and the same start fails again",
    ExitCode.DEAD_LETTERS: "a worker or a sink has met more records that can never be stored than a few bad devices "
    "explain: none of the last batch is sent, a person decides "
    "([doctor.md](doctor.md#when-a-worker-stops-with-exit-code-3))",
    ExitCode.STOP_GIVEN_UP: "a stop took longer than `IOT_SHUTDOWN_TIMEOUT` and some seconds: the program ended itself "
    "as kill -9 would, which loses nothing; start it again",
    ExitCode.INTERRUPTED: "a command was ended by Ctrl-C before it was done",
}


class ErrorLine(NamedTuple):
    """What a program says at its end, and how it ends."""

    line: str
    code: ExitCode


# What is wrong with a path or an address, and not with the moment: the next start fails as this one did.
_OF_A_NAME = {
    errno.EACCES: "give this account the right, or name another place",
    errno.EPERM: "give this account the right, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.ENOENT: "make its directory, or name another place",
    errno.ENOTDIR: "a file is in the way: remove it, or name another place",
    errno.EISDIR: "it is a directory: name a file",
    errno.EEXIST: "something is in the way: remove it, or name another place",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EADDRINUSE: "something listens there already: stop it, or set another port",
    errno.EADDRNOTAVAIL: "set an address of this machine",
}
_OF_THE_MOMENT = {
    errno.ENOSPC: "make room; nothing that was acknowledged is lost",
    errno.EDQUOT: "make room in the quota of this account; nothing that was acknowledged is lost",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "the whole machine has too many open files",
    errno.EIO: "the disk fails: look at the log of the kernel",
    errno.ENOMEM: "this machine has no memory left",
}


def last_words(error: BaseException) -> ErrorLine | None:
    """The line and the exit code for an error that an operator understands: ours, or the operating system's; of a group
    the first. None: it is a bug, whose traceback is wanted.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [last_words(one) for one in error.exceptions]
        return found[0] if found and all(found) else None
    if isinstance(error, SettingsError):
        return ErrorLine(f"iot-stream: {error}", ExitCode.WRONG)
    if isinstance(error, DeadLetterLimitError):
        return ErrorLine(f"iot-stream: {error}", ExitCode.DEAD_LETTERS)
    if isinstance(error, IotStreamError):
        return ErrorLine(f"iot-stream: {error}", ExitCode.FAILED)
    return _of_the_system(error) if isinstance(error, OSError) else None


def _of_the_system(error: OSError) -> ErrorLine:
    number = error.errno or 0
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    what = error.strerror or str(error) or type(error).__name__
    cure = _OF_A_NAME.get(number) or _OF_THE_MOMENT.get(number, "")
    said = ": ".join(["iot-stream", *([" -> ".join(names)] if names else []), what])
    code = ExitCode.WRONG if number in _OF_A_NAME else ExitCode.FAILED
    return ErrorLine(f"{said}; {cure}" if cure else said, code)
