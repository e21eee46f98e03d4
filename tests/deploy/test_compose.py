"""docker-compose.yml against the code and itself: paths, images, variables, ports, commands, order, limits, secrets."""

import json
import re
import shutil
import stat
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import COMMANDS
from app.cli.programs.bridge import NO_SHARE
from app.local.layout import SINKS, WAYS
from app.settings import Settings
from app.settings.process import METRICS_PORTS
from tests.deploy import compose, programs, vector
from tests.deploy.settings_named import refused, unknown
from tools.documents import ROOT

SERVICES, OURS, SECRETS = compose.services(), compose.ours(), compose.config()["secrets"]
SINK_SERVICES = {sink: f"sink-{sink.replace('_', '-')}" for sink in SINKS}
OPERATED = {"ops", "load"}  # `docker compose run`, now and then
PROFILED = {name for name, service in SERVICES.items() if "profiles" in service}
CERTIFICATES = {"gateway_certificate", "gateway_key", "gateway_ca"}  # made by scripts/certificates, as they name hosts
SETTINGS = Settings(_env_file=None)
each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)

# What a health check may run: the image brings it (its Dockerfile or package list says so).
PROGRAMS = {
    "iot-stream": {"python"},
    "iot-stream-sinks": {"python"},
    "redpandadata/redpanda": {"rpk", "grep"},
    "timescale/timescaledb": {"pg_isready"},
    "edoburu/pgbouncer": {"pg_isready"},
    "emqx/emqx": {"/opt/emqx/bin/emqx"},
    "timberio/vector": {"sh"},
    "prom/prometheus": {"wget"},
    "prom/alertmanager": {"wget"},
    "grafana/grafana": {"wget"},
    "redis": {"redis-cli"},
    "influxdb": {"influx"},
}
NOTHING_TO_RUN = {"redpandadata/console", "otel/opentelemetry-collector-contrib", "grafana/tempo", "grafana/loki"}

# Our image is built from this checkout; of the rest no second source names the digest, and no engine was there to ask.
NO_DIGEST = {
    "iot-stream",
    "iot-stream-sinks",
    "redpandadata/redpanda",
    "redpandadata/console",
    "emqx/emqx",
    "redis",
    "influxdb",
}


def image(name: str) -> str:
    """The image without its tag."""
    return str(SERVICES[name]["image"]).partition(":")[0]


def environment(name: str) -> dict[str, str]:
    """A service's variables."""
    given = SERVICES[name].get("environment", {})
    return {key: "" if value is None else str(value) for key, value in given.items()}


def binds(name: str) -> list[tuple[str, str]]:
    """(path in the checkout, path in the container) of what is mounted from the checkout."""
    volumes = [volume for volume in SERVICES[name].get("volumes", []) if isinstance(volume, str)]
    return [
        (present, there) for present, there, *_ in (volume.split(":") for volume in volumes) if present.startswith(".")
    ]


@each_service
def test_mounts(name: str) -> None:
    for present, _ in binds(name):
        assert (ROOT / present).exists(), present
    volumes = [volume for volume in SERVICES[name].get("volumes", []) if isinstance(volume, str)]
    assert [volume for volume in volumes if volume.startswith(".") and not volume.endswith(":ro")] == []
    named = {volume.split(":")[0] for volume in volumes if not volume.startswith(".")}
    assert named <= set(compose.config()["volumes"])


@each_service
def test_images_are_pinned(name: str) -> None:
    tag, _, digest = SERVICES[name]["image"].partition(":")[2].partition("@")
    assert re.match(r"v?\d+\.\d+\.\d+", tag), "a full version"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or image(name) in NO_DIGEST


@each_service
def test_nothing_has_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert "privileged" not in service
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []


@each_of_ours
def test_ours(name: str) -> None:
    service = OURS[name]
    assert service["command"][0] in COMMANDS
    assert service["read_only"]
    assert unknown(environment(name)) == set()
    assert refused({key: value for key, value in environment(name).items() if value}) == []
    assert "user" not in service, "the image's own, which is nobody's"
    assert compose.seconds(service["stop_grace_period"]) > SETTINGS.shutdown_timeout + SETTINGS.database_timeout


def test_a_worker_may_be_scaled() -> None:
    worker = SERVICES["worker"]
    assert "ports" not in worker
    assert "container_name" not in worker
    (state,) = worker["volumes"]
    assert state == {"type": "volume", "target": "/var/lib/iot-stream"}, "state is not shared between workers"
    assert f"IOT_STATE_DIR={state['target']}" in (ROOT / "Dockerfile").read_text()


@each_service
def test_health_checks(name: str) -> None:
    check = SERVICES[name].get("healthcheck", {})
    if image(name) in NOTHING_TO_RUN:
        assert not check
    elif SERVICES[name]["restart"] != "unless-stopped":
        assert check.get("disable") or not check
    else:
        assert words(check["test"])[0] in PROGRAMS[image(name)]
        assert check["start_period"]
        assert check["retries"]


def words(test: list[str]) -> list[str]:
    return test[1].split() if test[0] == "CMD-SHELL" else test[1:]


LONG_RUNNING = ("worker", "bridge", "notifier", *WAYS, *SINK_SERVICES.values())


def test_our_health_check_asks_ready_of_the_port_it_listens_on() -> None:
    (check,) = {json.dumps(OURS[name]["healthcheck"]["test"]) for name in LONG_RUNNING}
    assert "'http://127.0.0.1:' + os.environ['IOT_METRICS_PORT'] + '/ready'" in check
    for name in LONG_RUNNING:
        given = OURS[name]["environment"].get("IOT_METRICS_PORT", str(SETTINGS.metrics_port))  # the image's
        assert given == str(METRICS_PORTS["-".join(OURS[name]["command"])])
    assert '"/ready"' in (ROOT / "app" / "ops" / "health.py").read_text()


@each_service
def test_the_order_of_the_start(name: str) -> None:
    needed = SERVICES[name].get("depends_on", {})
    if isinstance(needed, list):
        assert set(needed) <= set(SERVICES)
        return
    for other, how in needed.items():
        once = SERVICES[other]["restart"].startswith("on-failure")
        assert how["condition"] == ("service_completed_successfully" if once else "service_healthy")
        assert once or "healthcheck" in SERVICES[other]


def test_what_runs_once_is_waited_for_by_something_that_stays() -> None:
    stays = {name for name, service in SERVICES.items() if service["restart"] == "unless-stopped"}
    awaited = set().union(*(SERVICES[name].get("depends_on", {}) for name in stays - PROFILED))
    assert set(SERVICES) - stays - OPERATED == {"topics", "schema", "accounts"}
    assert set(SERVICES) - stays - OPERATED <= awaited
    assert {SERVICES[name]["restart"] for name in OPERATED} == {"no"}
    assert not OPERATED & set().union(*(SERVICES[name].get("depends_on", {}) for name in SERVICES))


def before(name: str) -> set[str]:
    """All that has to be there first."""
    direct = set(SERVICES[name].get("depends_on", {}))
    return direct.union(*(before(other) for other in direct))


def test_nothing_is_written_before_there_is_where_to() -> None:
    for way_in in ("vector", "bridge"):
        assert {"emqx", "topics", "accounts"} <= before(way_in)
    for way_in in WAYS:
        assert {"topics", "schema", "accounts", "pgbouncer"} <= before(way_in)
    assert {"topics", "schema", "accounts", "pgbouncer"} <= before("worker") & before("notifier")
    for service in SINK_SERVICES.values():
        assert "topics" in before(service)
        assert not {"timescaledb", "emqx", "worker"} & before(service), "a sink wants no more of others"
    assert before("schema") == {"timescaledb"}


def test_addresses() -> None:
    ini = ConfigParser()
    ini.read(ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini")
    port = ini["pgbouncer"]["listen_port"]
    for name in ("worker", "notifier", *WAYS):
        assert f"@pgbouncer:{port}/iot" in environment(name)["IOT_DATABASE_URL"]
        assert environment(name)["IOT_DATABASE_STATEMENT_CACHE"] == "false"
    assert SERVICES["pgbouncer"]["healthcheck"]["test"][-1] == port
    assert ini["pgbouncer"]["pool_mode"] == "transaction"
    source, sink = vector.config()["sources"]["mqtt_in"], vector.config()["sinks"]["kafka_out"]
    assert (source["host"], source["port"]) == ("emqx", SETTINGS.mqtt_port)
    assert (sink["bootstrap_servers"], sink["topic"]) == (
        environment("worker")["IOT_KAFKA_BROKER"],
        SETTINGS.kafka_topic,
    )
    assert f'bind = "0.0.0.0:{SETTINGS.mqtt_port}"' in (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()
    hosts = re.findall(r"@(\w+):\d+/|^(\w+):\d+$", "\n".join(v for n in OURS for v in environment(n).values()), re.M)
    assert {one or other for one, other in hosts} <= set(SERVICES)


def test_all_agree_on_the_topics() -> None:
    kafka = {
        name: {key: value for key, value in environment(name).items() if key.startswith("IOT_KAFKA_")}
        for name in ("topics", *LONG_RUNNING)
    }
    assert len({json.dumps(given, sort_keys=True) for given in kafka.values()}) == 1
    assert OURS["topics"]["command"] == ["topics", "create"], "made as app/kafka/topics.py wants them"


def test_what_an_operator_runs_reaches_what_the_programs_use() -> None:
    """An account of the database for each: a worker's for dead letters and history, the owner's for users of a load."""
    worker, ops, load = (environment(name) for name in ("worker", "ops", "load"))
    same = ("IOT_DATABASE_URL", "IOT_DATABASE_PASSWORD_FILE", "IOT_DATABASE_STATEMENT_CACHE")
    assert [ops[name] for name in same] == [worker[name] for name in same]
    assert load["IOT_DATABASE_URL"] == environment("schema")["IOT_DATABASE_URL"]
    for name in OPERATED:
        given = environment(name)
        assert {key: value for key, value in given.items() if key.startswith("IOT_KAFKA_")} == {
            key: value for key, value in worker.items() if key.startswith("IOT_KAFKA_")
        }
        assert given["IOT_MQTT_HOST"] == environment("bridge")["IOT_MQTT_HOST"]
        assert {"IOT_AUDIT_TOPIC", "IOT_OPERATOR"} <= set(given)
        (volume,) = SERVICES[name]["volumes"]
        path = volume.split(":")[1]
        assert f"mkdir -p {path}" in (ROOT / "Dockerfile").read_text(), "of whom the image runs as"
        assert given.get("TMPDIR", path) == path
        assert "ports" not in SERVICES[name]


def test_one_bridge_has_its_session_on_disk() -> None:
    assert environment("bridge")["IOT_BRIDGE_SHARE"] == NO_SHARE, "EMQX keeps no shared subscription there"
    assert "durable_sessions { enable = true" in (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()
    assert not any(key.startswith("EMQX_DURABLE") for key in environment("emqx"))


def test_both_ways_in_take_the_same_topics() -> None:
    filters = json.loads(environment("bridge")["IOT_BRIDGE_FILTERS"])
    assert filters == vector.config()["sources"]["mqtt_in"]["topic"][:-1]
    accounts = (ROOT / "deploy" / "postgres" / "accounts.sql").read_text()
    user = environment("bridge")["IOT_MQTT_USERNAME"]
    assert set(re.findall(rf"\('{user}', +'allow', 'subscribe', '([^']+)'", accounts)) == set(filters)


# --- secrets ---------------------------------------------------------------------------------------------------------


def mounted_text(name: str) -> str:
    """The service and all configuration it mounts."""
    return json.dumps(SERVICES[name]) + "".join(
        path.read_text()
        for present, _ in binds(name)
        for path in ([ROOT / present] if (ROOT / present).is_file() else (ROOT / present).rglob("*.yml"))
    )


@each_service
def test_a_service_gets_the_secrets_it_reads(name: str) -> None:
    text = mounted_text(name)
    read = set(re.findall(r"/run/secrets/(\w+)", text)) | set(re.findall(r":secrets/(\w+)", text))
    read |= set(re.findall(r"SECRET\[files\.(\w+)\]", text))
    read -= {"mqtt_certificate", "mqtt_key"}  # of a listener that is switched off: tests/deploy/test_certificates.py
    assert read == set(SERVICES[name].get("secrets", []))
    assert read <= set(SECRETS)


@each_service
def test_no_secret_is_written_down(name: str) -> None:
    for key, value in environment(name).items():
        assert "PASSWORD" not in key or key.endswith("_FILE"), key
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"a password in {key}"


def test_the_script_makes_them(tmp_path: Path) -> None:
    script = [str(ROOT / "scripts" / "secrets"), str(tmp_path / "secrets")]
    subprocess.run(script, check=True, capture_output=True, timeout=60)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(SECRETS) - CERTIFICATES
    assert len(set(made.values())) == len(made)
    assert all(len(text) >= 48 for text in made.values())
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for account in ("worker", "notifier", "gateway"):
        assert f'"iot_{account}" "{made[f"{account}_db_password"]}"\n' in made["pgbouncer_userlist"]
    again = subprocess.run(script, check=True, capture_output=True, text=True, timeout=60)
    assert again.stdout == ""
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


def test_they_are_never_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/secrets/", ".env"} <= set(ignored)
    assert {Path(secret["file"]).parent for secret in SECRETS.values()} == {Path("deploy/secrets")}


def test_the_example_names_every_variable_and_its_default() -> None:
    example = re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    instead = {"COMPOSE_PROFILES", "VECTOR_REPLICAS"}  # shown as what the bridge wants
    wanted = compose.variables()
    assert {name for name, _ in example} == set(wanted) | {"COMPOSE_PROFILES"}
    assert {name: value for name, value in example if name not in instead} == {
        name: value for name, value in wanted.items() if name not in instead
    }
    assert SERVICES["bridge"]["profiles"] == [dict(example)["COMPOSE_PROFILES"]]
    ways = {way: [way, "ingest"] for way in WAYS}
    three = {name: [name, "sinks"] for name in ("sink-parquet", "sink-influx", "sink-redis")}
    servers = {"influxdb": three["sink-influx"], "redis": three["sink-redis"]}
    receivers = {name: [name] for name in ("sink-http-feed", "sink-grpc", *OPERATED)}
    assert {name: SERVICES[name]["profiles"] for name in PROFILED - {"bridge"}} == ways | three | servers | receivers
    assert str(SETTINGS.kafka_partitions) == wanted["IOT_KAFKA_PARTITIONS"]


def has_compose() -> bool:
    """Whether Docker and its Compose plugin are installed; neither needs an engine."""
    docker = shutil.which("docker")
    command: list[Any] = [docker, "compose", "version"]
    return bool(docker) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed: its own check of the file is left out")
def test_docker_compose_takes_it() -> None:
    for profile in ("", "bridge", "ingest", "sinks", "ops", "load"):
        done = subprocess.run(
            ["docker", "compose", "--profile", profile, "-f", str(compose.FILE), "config", "--quiet"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


def read_by_compose(*arguments: str) -> dict[str, Any]:
    """The project as the library of Compose makes it; fails with its words when it does not."""
    done = programs.run("compose", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_compose_reads_it_as_these_tests_do() -> None:
    services = read_by_compose("-profile", "*", str(compose.FILE))["services"]
    assert set(services) == set(SERVICES)
    for name, read in services.items():
        ours = SERVICES[name]
        assert (read["image"], read.get("read_only", False)) == (ours["image"], ours.get("read_only", False))
        assert {key: str(value) for key, value in read.get("environment", {}).items()} == environment(name)
        assert {secret["source"] for secret in read.get("secrets", [])} == set(ours.get("secrets", []))
        assert set(read.get("depends_on", {})) == set(ours.get("depends_on", {}))
        published = {
            (port["host_ip"], port["published"], f"{port['target']}{'/udp' * (port['protocol'] == 'udp')}")
            for port in read.get("ports", [])
        }
        assert published == {tuple(port.split(":")) for port in ours.get("ports", [])}
        assert int(read["mem_limit"]) >= 128 << 20


def test_what_has_a_profile_is_off_unless_asked_for() -> None:
    sinks = {*SINK_SERVICES.values(), "influxdb", "redis"}
    assert set(SERVICES) - set(read_by_compose(str(compose.FILE))["services"]) == {
        "bridge", *WAYS, *sinks, *OPERATED,
    } == PROFILED  # fmt: skip
    some = read_by_compose("-profile", "sink-redis", str(compose.FILE))["services"]
    assert PROFILED & set(some) == {"sink-redis", "redis"}
    one = read_by_compose("-profile", "grpc", str(compose.FILE))["services"]
    assert PROFILED & set(one) == {"grpc"}


def test_the_listener_with_tls_is_added() -> None:
    emqx = read_by_compose(str(compose.FILE), str(ROOT / "docker-compose.tls.yml"))["services"]["emqx"]
    assert [port["target"] for port in emqx["ports"]] == [1883, 18083, 8883]
    assert {secret["source"] for secret in emqx["secrets"]} == {
        *SERVICES["emqx"]["secrets"], "mqtt_certificate", "mqtt_key",
    }  # fmt: skip


def test_gateways_are_reached_as_they_say_and_no_further() -> None:
    """Published on the loopback address, in plain text; with docker-compose.tls.yml where it says, encrypted."""
    for way in WAYS:
        given = environment(way)
        port = int(given.get("IOT_GRPC_PORT", Settings.model_fields[f"{way}_port"].default))
        (published,) = SERVICES[way]["ports"]
        assert published.partition("/")[0].split(":")[2] == str(port)
        assert published.endswith("/udp") == (way == "quic")
        assert given[f"IOT_{way.upper()}_HOST"] == "0.0.0.0"
        assert given["IOT_GATEWAY_BEHIND_PROXY"] == "true"
        assert (f"IOT_{way.upper()}_CERTIFICATE_FILE" in given) == (way == "quic")
    files = ("-profile", "ingest", str(compose.FILE), str(ROOT / "docker-compose.tls.yml"))
    for way, service in read_by_compose(*files)["services"].items():
        if way in WAYS:
            (port,) = service["ports"]
            assert port["host_ip"] == "127.0.0.1", "of GATEWAY_ADDRESS"
            given = service["environment"]
            named = {Path(given[f"IOT_{way.upper()}_{file}_FILE"]).name for file in ("CERTIFICATE", "KEY")}
            assert named == {"gateway_certificate", "gateway_key"}
            assert unknown(given) == set()
            read = {Path(value).name for name, value in given.items() if name.endswith("_FILE")}
            assert {secret["source"] for secret in service["secrets"]} == read


def test_sinks_have_an_image_with_their_packages_and_no_other_service_has() -> None:
    for name, service in OURS.items():
        is_sink = name in SINK_SERVICES.values()
        assert image(name) == ("iot-stream-sinks" if is_sink else "iot-stream")
        assert service["build"] == ({"context": ".", "args": {"SINKS": "true"}} if is_sink else ".")
    assert "ARG SINKS=false" in (ROOT / "Dockerfile").read_text()


def test_sinks_write_to_what_comes_with_them() -> None:
    for sink, service in SINK_SERVICES.items():
        assert SERVICES[service]["command"] == ["sink", sink]
        assert "ports" not in SERVICES[service]
    influx, server = environment("sink-influx"), environment("influxdb")
    assert influx["IOT_INFLUX_URL"] == "http://influxdb:8086"
    assert (influx["IOT_INFLUX_ORG"], influx["IOT_INFLUX_BUCKET"], influx["IOT_INFLUX_TOKEN_FILE"]) == tuple(
        server[f"DOCKER_INFLUXDB_INIT_{name}"] for name in ("ORG", "BUCKET", "ADMIN_TOKEN_FILE")
    )
    assert environment("sink-redis")["IOT_REDIS_URL"] == "redis://redis:6379/0"
    (entry,) = [part for part in SERVICES["redis"]["entrypoint"] if "redis-server" in part]
    assert environment("sink-redis")["IOT_REDIS_PASSWORD_FILE"] in entry
    assert "--appendonly yes" in entry, "what it has taken is there after a restart"
    (volume,) = SERVICES["sink-parquet"]["volumes"]
    assert Path(environment("sink-parquet")["IOT_PARQUET_DIR"]).is_relative_to(volume.split(":")[1])
    assert f"mkdir -p {volume.split(':')[1]}" in (ROOT / "Dockerfile").read_text(), "of whom the image runs as"


def test_redis_reads_its_password_from_a_file_and_nobody_sees_it(tmp_path: Path) -> None:
    """The script itself, with another server in the place of Redis."""
    (shell, dash, script) = SERVICES["redis"]["entrypoint"]
    (tmp_path / "redis_password").write_text("a secret")
    server = tmp_path / "redis-server"
    server.write_text('#!/bin/sh\ncat "$1"\nshift\necho "$@"\n')
    server.chmod(0o755)
    script = script.replace("/run/secrets", str(tmp_path)).replace("/tmp/redis.conf", str(tmp_path / "redis.conf"))
    done = subprocess.run(
        [shell, dash, script], capture_output=True, text=True, check=True, timeout=60, env={"PATH": f"{tmp_path}:/bin"}
    )
    said = done.stdout.splitlines()
    assert said[0] == "requirepass a secret"
    assert said[1].startswith("--appendonly yes --save  --dir /data --maxmemory 256mb")
    assert stat.S_IMODE((tmp_path / "redis.conf").stat().st_mode) == 0o600


def test_what_compose_would_refuse_is_refused(tmp_path: Path) -> None:
    text = compose.FILE.read_text()
    for good, bad in (
        ("secrets: [grafana_password, ", "secrets: [no_such_password, "),
        ("prometheus: {condition: service_healthy}", "no_such_service: {condition: service_healthy}"),
        ("    shm_size: 256m", "    shm_sise: 256m"),
    ):
        assert good in text
        file = tmp_path / "docker-compose.yml"
        file.write_text(text.replace(good, bad))
        assert programs.run("compose", str(file)).returncode == 1, bad
