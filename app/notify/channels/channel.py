"""A user's channels as an operator wrote them -> which events each gets; and where channels may go at all."""

from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from app.core.model.alert_event import AlertEvent, Severity
from app.core.rules.globs import Globs

CHANNELS_MAX = 20  # of a user
_ORDER = {severity.value: place for place, severity in enumerate(Severity)}
_NAT64, _GLOBAL_IPV6 = IPv6Network("64:ff9b::/96"), IPv6Network("2000::/3")


class Channel(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of user_channels.channels. The URL has passwords in it: nobody logs it."""

    url: str  # as apprise takes it
    severity: Severity = Severity.INFO  # events of this severity and worse ones
    devices: tuple[str, ...] = ("*",)  # ids and globs

    @property
    def scheme(self) -> str:
        """Of its URL, in small letters."""
        return urlsplit(self.url).scheme.lower()

    def takes(self, event: AlertEvent) -> bool:
        """Whether the event goes to this channel; of an event with a severity of a later version: it does."""
        bad = _ORDER.get(event.severity, len(_ORDER))
        return bad >= _ORDER[self.severity.value] and Globs(self.devices).takes_in(event.device_id)


_channels = msgspec.json.Decoder(list[Channel]).decode


def read_channels(text: str | bytes) -> list[Channel]:
    """The entries of user_channels.channels. Raises ValueError for what is no list of them; its words have no URL."""
    try:
        found = _channels(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if len(found) > CHANNELS_MAX:
        raise ValueError(f"{len(found)} channels; a user has at most {CHANNELS_MAX}")
    return found


class AllowedTargets(Struct, frozen=True):
    """Where channels may go; an operator's settings."""

    schemes: tuple[str, ...]
    hosts: tuple[str, ...]  # names and globs
    private_hosts: tuple[str, ...] = ()  # names whose addresses may be private

    def refuses_scheme(self, scheme: str) -> str | None:
        """Why no channel has this scheme; None: channels may have it."""
        if scheme in self.schemes:
            return None
        return f"the scheme {scheme!r} is not in IOT_CHANNEL_SCHEMES ({', '.join(self.schemes)})"

    def refuses_host(self, host: str) -> str | None:
        """Why no channel goes to this host name or address, by its name; None: channels may."""
        name = host.rstrip(".").lower()
        if name in self.private_hosts or any(fnmatchcase(name, one) for one in self.hosts):
            return None
        return f"the host {name!r} is not in IOT_CHANNEL_HOSTS"

    def refuses_address(self, host: str, address: str) -> str | None:
        """Why no channel connects to this address, to which `host` was resolved; None: channels may."""
        if host.rstrip(".").lower() in self.private_hosts or is_public(address):
            return None
        return f"the host {host!r} is at the private address {address}: name it in IOT_CHANNEL_PRIVATE_HOSTS"


def is_public(address: str) -> bool:
    """Whether this is an address of the internet: not private, local, reserved or multicast, however it is wrapped in
    IPv6; False for a text that is no address.
    """
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = IPv4Address(int(found) & 0xFFFF_FFFF)
        if inner is None and found not in _GLOBAL_IPV6:  # site-local, ::10.0.0.1, NAT64 of one's own: no internet
            return False
        found = inner or found
    return found.is_global and not found.is_multicast
