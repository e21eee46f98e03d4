"""The two ways in: `users/u/devices/d` and `iot/u/d` are two devices of the user u, whatever else they share.

Inside a worker a device is known as (owner, device), where the owner is the user, or `iot/` and the node: no id holds a
slash. Everybody else knows the device by the user's id, its own id, and its way.
"""

IOT = "iot"  # the way of iot/{node}/{sensor}; the way of users/* is empty, as in the time when there was one way
USERS = "users"  # what a command says for the way of users/*
FLEET = "*"  # user id of the configuration that holds for all users; nobody publishes one under this name
_PREFIX = "iot/"


def owner_of(user_id: str, way: str) -> str:
    """The owner, inside a worker, of a device of `user_id` that came in by `way`."""
    return _PREFIX + user_id if way == IOT else user_id


def user_of(owner: str) -> str:
    """The user id, or the node id, that everybody outside a worker uses for this owner."""
    return owner.removeprefix(_PREFIX)


def way_of(owner: str) -> str:
    """The way of a device of this owner: IOT, or empty for users/*."""
    return IOT if owner.startswith(_PREFIX) else ""
