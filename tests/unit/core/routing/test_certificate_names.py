"""Alternative names of a client certificate, and the device they bind it to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.routing.certificate_names import bound_device, device_uri, peer_names


@pytest.mark.parametrize(
    ("uris", "device"),
    [
        ([], None),
        (["https://example.com/sensor-1"], None),
        (["urn:iot-stream:device:sensor-1"], "sensor-1"),
        (["spiffe://example.com/agent", "URN:iot-stream:device:Boiler%201"], "Boiler 1"),
        (["urn:iot-stream:device:a", "urn:iot-stream:device:b"], "a"),
        (["urn:iot-stream:device:"], ""),  # which is no id, and so is refused as one
    ],
)
def test_the_device_is_in_a_uri_of_its_own_form(uris: list[str], device: str | None) -> None:
    assert bound_device(uris) == device


@given(st.text())
def test_any_id_comes_back(device: str) -> None:
    if not any("\ud800" <= sign <= "\udfff" for sign in device):
        assert device_uri(device).isascii()
        assert bound_device([device_uri(device)]) == device


@pytest.mark.parametrize(
    ("certificate", "found"),
    [
        ({"subject": ((("commonName", "alice"),),)}, ("alice", None)),
        ({"subject": ((("countryName", "CH"),), (("commonName", "a"), ("commonName", "b")))}, ("b", None)),
        (
            {
                "subject": ((("commonName", "alice"),),),
                "subjectAltName": (("DNS", "d9"), ("URI", "urn:iot-stream:device:truck%201")),
            },
            ("alice", "truck 1"),
        ),
        ({}, ("", None)),
    ],
)
def test_the_names_of_a_certificate(certificate: dict[str, Any], found: tuple[str, str | None]) -> None:
    assert peer_names(certificate) == found
