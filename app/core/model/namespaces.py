"""The two ways in: `users/u/devices/d` and `iot/u/d` are two devices of the user u, whatever else they share.

Inside a worker a device is known as (owner, device), where the owner is the user, or `iot/` and the node: no id holds a
slash. Outside it has the user's and the device's id, and its way.
"""

IOT = "iot"  # the way of iot/{node}/{sensor}; that of users/* is empty, as it was before there were two
USERS = "users"  # what a command says for the other one
_PREFIX = "iot/"


def owner_of(user_id: str, way: str) -> str:
    """Who owns a device of that way."""
    return _PREFIX + user_id if way == IOT else user_id


def user_of(owner: str) -> str:
    """The user, or the node, as everybody else knows it."""
    return owner.removeprefix(_PREFIX)


def way_of(owner: str) -> str:
    """IOT, or empty."""
    return IOT if owner.startswith(_PREFIX) else ""
