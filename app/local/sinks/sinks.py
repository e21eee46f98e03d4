"""The sinks of a local stack: settings in; the servers, settings and stack.env variables of each sink out."""

from collections.abc import Iterable, Mapping

from app.errors import SettingsError
from app.local.layout import Layout, sink_program
from app.local.servers.common import LOOPBACK
from app.local.servers.influxdb import InfluxDb
from app.local.servers.redis import Redis
from app.settings import Settings

# The settings with the receiver of sinks for which the local stack has no server.
RECEIVERS = {"http_feed": "feed_url", "grpc": "grpc_push_target"}
# What `LocalSinks.settings` may set, without IOT_.
OWN = (
    "PARQUET_DIR", "PARQUET_ROTATE_SECONDS", "REDIS_URL", "INFLUX_URL", "INFLUX_BUCKET", "INFLUX_USERNAME",
    "INFLUX_PASSWORD",
)  # fmt: skip
ROTATE_SECONDS = 60  # of Parquet's files in a local stack, so that the first file is there soon


class LocalSinks:
    """The destination of each of SINKS: from the settings, else a server or a directory of this stack."""

    def __init__(self, layout: Layout, ports: Mapping[str, int]) -> None:
        """`ports`: a port for each of DEFAULT_PORTS. Nothing is started."""
        root = layout.root
        self._ports, self._directory = ports, root / "parquet"
        self.redis = Redis(root / "redis", ports["redis"], layout.log("redis"))
        self.influxdb = InfluxDb(root / "influxdb", ports["influxdb"], layout.log("influxdb"))

    def servers(self, sinks: Iterable[str], settings: Settings) -> tuple[str, ...]:
        """The servers of this stack that `sinks` write to."""
        wanted = [
            ("redis", "redis" in sinks and self._redis_is_own(settings)),
            ("influxdb", "influx" in sinks and self._influxdb_is_own(settings)),
        ]
        return tuple(name for name, is_wanted in wanted if is_wanted)

    def settings(self, sinks: Iterable[str], settings: Settings) -> dict[str, str]:
        """Names and values for stack.env, and with IOT_ for the programs: the destinations of `sinks` in this stack,
        without destinations that `settings` set to servers elsewhere.
        """
        servers, found = self.servers(sinks, settings), dict[str, str]()
        directory = settings.parquet_dir if "parquet_dir" in settings.model_fields_set else str(self._directory)
        if "parquet" in sinks and directory == str(self._directory):
            found |= {"PARQUET_DIR": str(self._directory)}
            if "parquet_rotate_seconds" not in settings.model_fields_set:
                found |= {"PARQUET_ROTATE_SECONDS": str(ROTATE_SECONDS)}
        if "redis" in servers:
            found |= {"REDIS_URL": self.redis.url}
        if "influxdb" in servers:
            made = self.influxdb
            found |= {
                "INFLUX_URL": made.url, "INFLUX_BUCKET": made.database, "INFLUX_USERNAME": made.account,
                "INFLUX_PASSWORD": made.password,
            }  # fmt: skip
        return found

    def addresses(self, sinks: Iterable[str]) -> dict[str, str]:
        """Names and values for stack.env: the URL of the metrics of each of `sinks`."""
        return {
            f"SINK_{sink.upper()}_METRICS_URL": f"http://{LOOPBACK}:{self._ports[sink_program(sink)]}" for sink in sinks
        }

    # A shell with an earlier stack.env has both URLs set to this stack's servers, perhaps with earlier ports.

    def _redis_is_own(self, settings: Settings) -> bool:
        url = settings.redis_url
        return url is None or f":{self.redis.password}@" in url.get_secret_value()

    def _influxdb_is_own(self, settings: Settings) -> bool:
        password = settings.influx_password
        own = password is not None and password.get_secret_value() == self.influxdb.password
        return settings.influx_url is None or own


def refuse_without_receiver(sinks: Iterable[str], settings: Settings) -> None:
    """Raise SettingsError that names the missing setting when one of `sinks` has no receiver."""
    for sink in sinks:
        if (name := RECEIVERS.get(sink)) and name not in settings.model_fields_set:
            raise SettingsError(f"{sink_program(sink)}: its receiver is yours: set IOT_{name.upper()}")
