"""stack.env, pids.json and the choice of ports."""

import json
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.local.layout import DEFAULT_PORTS, SINKS, WAYS, Layout, choose_port, parse_env, render_env, sink_program
from app.local.servers.common import free_port, secret_file


def test_env_has_each_name_plain_and_prefixed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write_env({"KAFKA_BROKER": "127.0.0.1:9092", "MQTT_PASSWORD": "a-b_c"})
    assert layout.env.read_text().splitlines() == [
        "KAFKA_BROKER=127.0.0.1:9092",
        "MQTT_PASSWORD=a-b_c",
        "IOT_KAFKA_BROKER=127.0.0.1:9092",
        "IOT_MQTT_PASSWORD=a-b_c",
    ]
    assert layout.env.stat().st_mode & 0o777 == 0o600


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_env_is_read_back_by_us_and_by_a_shell(value: str) -> None:
    line = render_env({"X": value}).splitlines()[0]
    assert parse_env(line + "\n") == {"X": value}
    assert shlex.split(line) == [f"X={value}"]


def test_env_can_be_sourced(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write_env({"DATABASE_URL": "postgresql://iot:it's $HOME @127.0.0.1/iot?a=b&c"})
    script = f'set -a; . {layout.env}; printf %s "$IOT_DATABASE_URL"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "postgresql://iot:it's $HOME @127.0.0.1/iot?a=b&c"


def test_addresses_that_are_no_settings_stand_there_once(tmp_path: Path) -> None:
    """Else the settings would refuse IOT_HTTP_URL, which nobody reads, as a misspelt name."""
    layout = Layout(tmp_path)
    layout.write_env({"KAFKA_BROKER": "k:1"}, {"HTTP_URL": "http://127.0.0.1:8088", "QUIC_CA": "/a path/ca.pem"})
    assert layout.env.read_text().splitlines() == [
        "KAFKA_BROKER=k:1", "IOT_KAFKA_BROKER=k:1", "HTTP_URL=http://127.0.0.1:8088", "QUIC_CA='/a path/ca.pem'",
    ]  # fmt: skip
    assert parse_env(layout.env.read_text())["QUIC_CA"] == "/a path/ca.pem"


def test_ways_that_were_asked_for_are_remembered_until_the_stack_is_gone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.ways() == ()
    layout.want_ways(["quic", "http"])
    layout.want_ways(["worker", "tcp"])  # of what an earlier supervisor left running only the gateways count
    assert Layout(tmp_path).ways() == ("http", "tcp", "quic")
    layout.want_ways(WAYS)
    assert layout.ways() == WAYS
    layout.forget()
    assert layout.ways() == ()


def test_sinks_and_their_servers_are_remembered_until_the_stack_is_gone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.sinks() == layout.sink_servers() == ()
    layout.want_sinks(["grpc", "parquet"])
    layout.want_sinks(["redis"])
    layout.want_sink_servers(["redis"])
    assert Layout(tmp_path).sinks() == ("parquet", "redis", "grpc")
    assert layout.sink_servers() == ("redis",)
    assert layout.ways() == (), "a gateway of that name is another program"
    layout.forget()
    assert layout.sinks() == layout.sink_servers() == ()


def test_each_sink_has_a_port_and_a_name_of_its_own() -> None:
    assert {sink_program(sink) for sink in SINKS} <= DEFAULT_PORTS.keys()
    assert {sink_program(sink) for sink in SINKS} & {*WAYS, "redis", "influxdb"} == set()


def test_pids_are_private_json(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write_pids({"kafka": 7})
    assert json.loads(layout.pids.read_text()) == {"kafka": 7}
    assert layout.pids.stat().st_mode & 0o777 == 0o600


def test_a_damaged_memory_is_an_empty_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.ports.write_text('{"kafka": 9')
    assert layout.read_json(layout.ports) == {}


def test_port_taken_by_another_is_not_chosen() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert choose_port(None, taken, False, set()) != taken
        assert choose_port(taken, taken, True, set()) == taken, "our own server, still running, keeps its port"


def test_a_port_is_free_over_tcp_or_over_udp() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        port = free_port()  # none of those of outgoing connections, one of which could have it over TCP
        other.bind(("127.0.0.1", port))
        assert choose_port(port, port, False, set(), socket.SOCK_DGRAM) != port
        assert choose_port(port, port, False, set()) == port


def only(*free: int) -> Callable[[int, int], bool]:
    """Of the ports of last time and of the default these alone are free, whatever else runs on this machine."""
    return lambda port, kind: port in free


def test_port_of_last_time_wins_over_the_default() -> None:
    assert choose_port(7001, 9092, False, set(), is_free=only(7001, 9092)) == 7001
    assert choose_port(7001, 9092, False, set(), is_free=only(9092)) == 9092
    assert choose_port(7001, 9092, False, {7001}, is_free=only(7001, 9092)) == 9092, "given to another in this round"
    assert choose_port(7001, 7001, False, {7001}, is_free=only(7001)) != 7001


def test_ports_survive_a_restart(tmp_path: Path) -> None:
    first = Layout(tmp_path).choose_ports(is_free=only())
    assert len(set(first.values())) == len(DEFAULT_PORTS)
    assert not set(first.values()) & set(DEFAULT_PORTS.values())
    assert Layout(tmp_path).choose_ports(is_free=only(*first.values(), *DEFAULT_PORTS.values())) == first


def test_a_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "operator"
    secret = secret_file(path)
    assert len(secret) >= 32
    assert secret_file(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
