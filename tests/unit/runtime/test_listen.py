"""What listens, and what is said where nothing can."""

import socket

import pytest

from app.errors import MachineError
from app.runtime.listen import listen


def test_a_free_port_is_taken_and_the_same_one_is_refused_with_its_settings() -> None:
    (made,) = listen("127.0.0.1", 0, "/metrics", "IOT_METRICS")
    with made:
        port = made.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(MachineError) as caught:
            listen("127.0.0.1", port, "HTTP", "IOT_HTTP")
    assert str(caught.value) == (
        f"cannot serve HTTP at port {port} of 127.0.0.1: something listens there already; "
        "set IOT_HTTP_PORT to a free one, or IOT_HTTP_HOST to an address of this machine"
    )


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(MachineError, match="IOT_HTTP_HOST to an address of this machine"):
        listen("192.0.2.1", 0, "HTTP", "IOT_HTTP")
