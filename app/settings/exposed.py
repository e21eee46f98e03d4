"""Gateways that may not start as they are set: every client has to be known, and its data to be encrypted."""

from collections.abc import Iterator, Sequence

from app.errors import SettingsError
from app.runtime.addresses import is_loopback
from app.settings.settings import Settings


def refuse_exposed(settings: Settings, ways: Sequence[str]) -> None:
    """Return when the gateways may start as they are set; `ways`: which of http, tcp, grpc, quic are to start.

    Raises SettingsError that names all that is wrong: a host beyond loopback without a certificate or for everybody,
    QUIC without its certificate or the CA of its clients, an anonymous account behind a proxy.
    """
    wrong = list(dict.fromkeys(line for way in ways for line in _faults(settings, way)))
    if wrong:
        raise SettingsError("\n  ".join(["wrong settings:", *wrong]))


def listens_openly(settings: Settings, way: str) -> bool:
    """Whether others than this machine reach the gateway `way` (http, tcp, grpc, quic); gRPC without a port has a UNIX
    socket alone.
    """
    return not is_loopback(getattr(settings, f"{way}_host")) and (way != "grpc" or settings.grpc_port > 0)


def _faults(settings: Settings, way: str) -> Iterator[str]:
    name = way.upper()
    certificate = getattr(settings, f"{way}_certificate_file")
    if way == "quic":
        for file in ("certificate", "ca"):
            if getattr(settings, f"quic_{file}_file") is None:
                yield f"IOT_QUIC_{file.upper()}_FILE: QUIC is always encrypted, and its clients show certificates"
    if settings.gateway_anonymous_account is not None and settings.gateway_behind_proxy:
        yield "IOT_GATEWAY_ANONYMOUS_ACCOUNT is for this machine alone, and IOT_GATEWAY_BEHIND_PROXY lets others in"
    if not listens_openly(settings, way):
        return
    host = f"IOT_{name}_HOST: {getattr(settings, f'{way}_host')} is reached from beyond this machine"
    if way != "quic" and certificate is None and not settings.gateway_behind_proxy:
        yield f"{host}: set IOT_{name}_CERTIFICATE_FILE; with a proxy in front that encrypts, IOT_GATEWAY_BEHIND_PROXY"
    if settings.gateway_anonymous_account is not None and not settings.gateway_behind_proxy:
        yield f"{host}: IOT_GATEWAY_ANONYMOUS_ACCOUNT is for loopback and UNIX sockets alone"
