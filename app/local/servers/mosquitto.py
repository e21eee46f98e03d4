"""A real Mosquitto broker on the loopback address: no anonymous client, and each account confined to its topics."""

import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from app.core.routing.mqtt_acl import DEVICES, for_mosquitto
from app.errors import PermanentError
from app.local.servers.common import LOOPBACK, exchange, free_port, secret_file, wait_until_ready, write_private
from app.local.servers.mosquitto_accounts import AddedAccounts
from app.local.servers.process import ChildProcess
from app.local.servers.tools import find, require

OPERATOR, BRIDGE, NOTIFIER = "operator", "iot-bridge", "iot-notifier"

# autosave_interval 1: a kill -9 loses what the last second changed, a clean stop (SIGTERM saves) nothing. Saving on
# every change instead would cap the broker at 149 messages/s.
# max_packet_size: strictly below what the bridges and the topic take (1.1 and 2 MB), above the 1 MiB payload limit, so
# that a payload that is too large reaches the dead letters instead of cutting its device off.
# set_tcp_nodelay: a message does not wait until the bridge has acknowledged the packet before it (Nagle).
CONFIGURATION = """\
listener {port} {host}
{user}
allow_anonymous false
password_file {directory}/passwords
acl_file {directory}/acl
persistence true
persistence_location {directory}/data/
autosave_interval 1
persistent_client_expiration 7d
max_queued_messages 1000000
max_queued_bytes 0
max_inflight_messages 20000
max_packet_size 1090000
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
"""

# The devices' rules are the same as in the table mqtt_acl.
ACL = f"""\
{for_mosquitto(DEVICES)}
user {OPERATOR}
topic readwrite #
topic read $SYS/#

user {BRIDGE}
topic read users/#
topic read iot/#

user {NOTIFIER}
topic write users/+/alerts
topic write users/+/alerts/errors
topic write users/+/config/errors
topic read users/+/config

"""


class Mosquitto:
    """One broker with its sessions, accounts and secrets in `data_dir`."""

    host = LOOPBACK
    username = OPERATOR
    commands = ("mosquitto", "mosquitto_passwd")  # the programs of this machine that the start wants

    def __init__(self, data_dir: Path, port: int = 0, log: Path | None = None, accounts: Iterable[str] = ()) -> None:
        """`port` 0 takes a free port; `accounts` are the users that exist besides operator, bridge and notifier."""
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.accounts = [OPERATOR, BRIDGE, NOTIFIER, *accounts]
        self.added = AddedAccounts(self.data_dir / "accounts.json")
        self.process = ChildProcess("mosquitto", [], log or self.data_dir / "mosquitto.log")

    def password_file(self, account: str) -> Path:
        """Path of the file with an account's password (mode 0600); the file may be missing yet."""
        return self.data_dir / "secrets" / account

    def password_of(self, account: str) -> str:
        """An account's password, made when first asked for."""
        return secret_file(self.password_file(account))

    @property
    def password(self) -> str:
        """The operator's password."""
        return self.password_of(OPERATOR)

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        return self.process.pid

    def start(self) -> None:
        """Start the broker. Raises PermanentError when Mosquitto is missing or refuses its configuration."""
        if self.process.alive():
            return
        require(*self.commands)
        configuration = self._configure()
        self.process.command = [find("mosquitto") or "mosquitto", "-c", str(configuration)]
        self.process.start()

    def _configure(self) -> Path:
        (self.data_dir / "data").mkdir(parents=True, exist_ok=True)
        self.write_accounts()
        # Started by root, Mosquitto would become an account that cannot read our private files.
        user = "user root" if os.geteuid() == 0 else "# runs as whoever starts it"
        path = self.data_dir / "mosquitto.conf"
        path.write_text(CONFIGURATION.format(port=self.port, host=LOOPBACK, user=user, directory=self.data_dir))
        return path

    def write_accounts(self) -> None:
        """Write who may do what; a running broker reads the files again by `reload`. Raises
        PermanentError when mosquitto_passwd refuses.
        """
        write_private(self.data_dir / "acl", ACL + self.added.acl_lines())
        self._write_passwords()

    def reload(self) -> None:
        """Have a running broker look at its accounts again (SIGHUP); a broker that does not run is left alone."""
        if self.process.alive():
            os.kill(self.pid, signal.SIGHUP)

    def _write_passwords(self) -> None:
        path = self.data_dir / "passwords.new"
        write_private(path, "".join(f"{name}:{self.password_of(name)}\n" for name in self.accounts))
        command = [find("mosquitto_passwd") or "mosquitto_passwd", "-U", str(path)]  # hashes them in place
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermanentError(f"mosquitto_passwd: {(done.stderr or done.stdout).strip()}")
        write_private(self.data_dir / "passwords", path.read_text() + self.added.password_lines())
        path.unlink()

    def ready(self) -> bool:
        """Whether the broker answers a CONNECT; the answer is a refusal, as this CONNECT names no account."""
        connect = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x05\x00\x02up"
        return self.process.listens(self.port) and exchange(self.port, connect, 2) == b"\x20\x02"

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Return once the broker takes connections. Raises TransientError after `timeout` seconds or when it died."""
        wait_until_ready(self.process, self.ready, timeout)

    def stop(self, deadline: float = 20.0) -> bool:
        """Stop cleanly, which saves every session and queued message; SIGKILL after `deadline` seconds. True if the
        stop was clean.
        """
        return self.process.stop((signal.SIGTERM, deadline))

    def kill(self) -> None:
        """End the broker by SIGKILL: what the last second changed is lost."""
        self.process.kill()
