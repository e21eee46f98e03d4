"""MQTT accounts: names that are safe in a topic, what each may do, and the same for Mosquitto."""

import re
from collections.abc import Collection, Iterable
from enum import Enum

from msgspec import Struct

from app.core.model.namespaces import FLEET

ALL = "$all"  # in mqtt_acl: every account of a user
DEVICE = "$device"  # in mqtt_acl: every account of one device alone
NAME_MAX = 200  # bytes; the ids of a device take up to 2048 in a primary key

_UNSAFE = re.compile(r"[/+#\x00-\x1f\x7f-\x9f]")
_MOSQUITTO = {"${username}": "%u", "${clientid}": "%c"}


class AclAction(Enum):
    """The action that a rule is about."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class AclRule(Struct, frozen=True):
    """A row of mqtt_acl."""

    username: str
    permission: str  # allow, deny
    action: AclAction
    topic: str  # a filter; ${username} and ${clientid} stand for the client's name and id
    priority: int = 100
    client_id: str | None = None  # None: whatever the client's id


def _allow(username: str, action: AclAction, priority: int, *topics: str) -> list[AclRule]:
    return [AclRule(username, "allow", action, topic, priority) for topic in topics]


# A user name is the user (or node), a client id the device (or sensor). init.sql puts the same rows in.
DEVICES = (
    *_allow(
        ALL,
        AclAction.PUBLISH,
        100,
        "users/${username}/devices/${clientid}/telemetry",
        "users/${username}/config",
        "users/${username}/alerts/manage",
        "iot/${username}/${clientid}/telemetry",
        "iot/${username}/status",
    ),
    *_allow(
        ALL,
        AclAction.SUBSCRIBE,
        100,
        "users/${username}/devices/${clientid}/commands",
        "users/${username}/alerts",
        "users/${username}/alerts/errors",
        "users/${username}/config/errors",
    ),
)

# Of an account of one device: ${username} is its user, ${clientid} its device, whatever the client calls itself.
ONE_DEVICE = (
    *_allow(
        DEVICE,
        AclAction.PUBLISH,
        100,
        "users/${username}/devices/${clientid}/telemetry",
        "iot/${username}/${clientid}/telemetry",
    ),
    *_allow(DEVICE, AclAction.SUBSCRIBE, 100, "users/${username}/devices/${clientid}/commands"),
)


def of_one_device(username: str, user: str, device: str) -> list[AclRule]:
    """The rules of an account of one device, with its user and device put in."""
    return [
        AclRule(username, "allow", one.action, one.topic.replace("${username}", user).replace("${clientid}", device))
        for one in ONE_DEVICE
    ]


def name_fault(name: str) -> str | None:
    """What keeps `name` from being a user name or client id; None when nothing does.

    The broker puts names and ids into topics: a name that holds a level or a wildcard would open the topics of others.
    """
    if not name or len(name.encode()) > NAME_MAX:
        return f"give 1 to {NAME_MAX} bytes"
    if _UNSAFE.search(name):
        return "/, +, # and control characters would reach into the topics of others"
    if name == FLEET:
        return "* stands for all users in user_configs"
    if name.startswith("$"):
        return "names with $ are the broker's own"
    if name != name.strip() or ":" in name:
        return "no blanks around the name and no colon, which separates name and password in files"
    return None


def rule(username: str, text: str) -> AclRule:
    """The rule that allows what `text` says: `publish:TOPIC` or `subscribe:TOPIC`. Raises ValueError for other text."""
    action, _, topic = text.partition(":")
    if action not in ("publish", "subscribe"):
        raise ValueError(f"{text!r}: write publish:TOPIC or subscribe:TOPIC")
    levels = topic.split("/")
    wild = [level for level in levels[:-1] if level != "+" and set(level) & set("+#")]
    if not topic or wild or "#" in levels[:-1] or (levels[-1] not in ("+", "#") and set(levels[-1]) & set("+#")):
        raise ValueError(f"{topic!r} is no topic filter: + stands for a whole level, # for the last levels")
    if re.search(r"[\x00-\x1f\x7f]", topic):
        raise ValueError(f"{topic!r}: a topic holds no control characters")
    return AclRule(username, "allow", AclAction(action), topic, 10)


def for_mosquitto(rules: Iterable[AclRule], closed: Collection[str] = ()) -> str:
    """The rules as lines of an acl_file, where what no line allows is denied as well.

    `closed` are the accounts that have nothing of what is allowed to all users: whatever begins with an account's own
    name is denied to them, which Mosquitto looks at first. Mosquitto grants every subscription, and withholds the
    messages that the client may not read.
    """
    lines = []
    by_user = {name: [f"topic deny {way}/{name}/#" for way in ("users", "iot")] for name in closed}
    for one in rules:
        if one.permission != "allow":
            continue  # nothing else is allowed anyway, and its "deny" would take both actions
        access, topic = "write" if one.action is AclAction.PUBLISH else "read", one.topic
        for name, short in _MOSQUITTO.items():
            topic = topic.replace(name, short)
        if one.username == ALL:
            lines.append(f"pattern {access} {topic}")
        else:
            by_user.setdefault(one.username, []).append(f"topic {access} {topic}")
    for username, own in by_user.items():
        lines += ["", f"user {username}", *own]
    return "\n".join(lines) + "\n"
