"""The sinks of a local stack: settings in; out, the servers and settings of each, and what stack.env says of them."""

from collections.abc import Iterable, Mapping

from app.errors import SettingsError
from app.local.layout import Layout, sink_program
from app.local.servers.common import LOOPBACK
from app.local.servers.influxdb import InfluxDb
from app.local.servers.redis import Redis
from app.settings import Settings

# Where a sink writes to is a setting. These two have no server of their own here: their receivers are yours.
RECEIVERS = {"http_feed": "feed_url", "grpc": "grpc_push_target"}
ROTATE_SECONDS = 60  # of Parquet's files here, where somebody waits for the first one


class LocalSinks:
    """Where each of SINKS writes to: where the settings say, else a server or a directory of this stack."""

    def __init__(self, layout: Layout, ports: Mapping[str, int]) -> None:
        """`ports`: one for each of DEFAULT_PORTS. Nothing is started."""
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
        """Names and values for stack.env, and with IOT_ for the programs: where `sinks` write to in this stack. Nothing
        of what `settings` say otherwise.
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
        """Names and values for stack.env: where the metrics of each of `sinks` are."""
        return {
            f"SINK_{sink.upper()}_METRICS_URL": f"http://{LOOPBACK}:{self._ports[sink_program(sink)]}" for sink in sinks
        }

    # A shell that has read an earlier stack.env has both set to what is here, or was before the ports changed.

    def _redis_is_own(self, settings: Settings) -> bool:
        url = settings.redis_url
        return url is None or f":{self.redis.password}@" in url.get_secret_value()

    def _influxdb_is_own(self, settings: Settings) -> bool:
        password = settings.influx_password
        own = password is not None and password.get_secret_value() == self.influxdb.password
        return settings.influx_url is None or own


def refuse_without_receiver(sinks: Iterable[str], settings: Settings) -> None:
    """Raise SettingsError that names the setting when nothing says where one of `sinks` should write to."""
    for sink in sinks:
        if (name := RECEIVERS.get(sink)) and name not in settings.model_fields_set:
            raise SettingsError(f"{sink_program(sink)}: its receiver is yours: set IOT_{name.upper()}")
