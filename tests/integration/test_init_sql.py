"""init.sql on real servers: as often as you like, at once, and with TimescaleDB where the server has it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from app.core.batch.effects import Statement
from app.errors import PermanentError, TransientError
from app.postgres.connect import Connection
from app.postgres.schema import init_sql
from app.postgres.store.statements import STATEMENTS

pytestmark = pytest.mark.integration

TABLES = {
    "iot_migrations": "version name checksum applied_at",
    "raw_telemetry": "time user_id device_id sequence_id temperature battery extra_data",
    "user_configs": "user_id rules updated_at maintenance edited_at sampling accepted message_edited_at message_at"
    " message_partition message_offset mutes",
    "user_channels": "user_id channels created_at",
    "rolling_averages": "user_id device_id key window_seconds time count mean minimum maximum way",
    "active_alerts": "user_id device_id rule_id alert_id severity message value threshold first_seen last_seen state "
    "snoozed_until way assignee comment",
    "muted_alerts": "user_id device_id rule_id since snoozed_until muted_by comment way",
    "alert_history": "alert_id status repeat user_id device_id rule_id severity message value threshold event_time "
    "first_seen event sent_at recorded_at held_at left_out",
    "device_status": "device_key user_id device_id status last_seen detail clock_skew clock_set_back_at clock_set_back"
    " way",
    "mqtt_users": "id username clientid user_id password_hash salt is_superuser created_at device_id",
    "mqtt_acl": "id username clientid permission action topic qos retain priority",
    "gateway_tokens": "id username device_id name token_hash created_at expires_at",
}


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


async def columns(connection: Connection) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT table_name, string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name NOT LIKE 'telemetry_1_' GROUP BY 1"
    )
    return dict(tuple(row) for row in rows)


async def test_again_and_at_once_changes_nothing(database: str, connection: Connection) -> None:
    await connection.execute("INSERT INTO user_configs (user_id) VALUES ('u1')")
    await connection.execute("DELETE FROM mqtt_acl WHERE topic = 'iot/${username}/status'")
    rules = await connection.fetchval("SELECT count(*) FROM mqtt_acl")
    await init_sql.apply(database)
    await asyncio.gather(*(init_sql.apply(database) for _ in range(4)))
    assert await columns(connection) == TABLES
    assert await connection.fetchval("SELECT count(*) FROM user_configs") == 1
    assert await connection.fetchval("SELECT count(*) FROM mqtt_acl") == rules  # what was deleted stays so


async def test_an_edit_by_hand_bears_its_own_time(connection: Connection) -> None:
    """The edit is respected, whatever the clock of a bridge says, and by messages that come again."""
    stamp = "SELECT edited_at FROM user_configs WHERE user_id = 'u1'"
    old = datetime(2020, 1, 1, tzinfo=UTC)

    async def message(rules: str, came: datetime, offset: int) -> str:
        sql = STATEMENTS[Statement.UPSERT_CONFIG].sql
        await connection.execute(sql, "u1", rules, None, came, 3, offset, True)
        found: str = await connection.fetchval("SELECT rules::text || maintenance::text FROM user_configs")
        return found

    assert await message("[1]", old, 1) == "[1][]"
    assert await connection.fetchval(stamp) == old
    assert await message("[2]", old - timedelta(days=1), 2) == "[2][]"  # the bridge's clock was set back
    assert await connection.fetchval(stamp) == old + timedelta(microseconds=1)
    assert await message("[1]", old, 1) == "[2][]"
    await connection.execute("UPDATE user_configs SET maintenance = '[3]'")
    by_hand = await connection.fetchval(stamp)
    assert by_hand > old + timedelta(days=365)
    assert await message("[4]", old + timedelta(days=1), 3) == "[2][3]"
    ahead = by_hand + timedelta(days=365)
    assert await message("[5]", ahead, 4) == "[5][3]"
    assert await connection.fetchval("SELECT edited_at <= clock_timestamp() FROM user_configs")
    await connection.execute("UPDATE user_configs SET rules = '[6]'")
    assert await message("[5]", ahead, 4) == "[6][3]"  # the message comes again
    assert await message("[7]", by_hand - timedelta(hours=1), 5) == "[6][3]"


async def test_a_table_of_version_0_1_0_gets_the_new_columns(database: str, connection: Connection) -> None:
    await connection.execute(
        "ALTER TABLE user_configs DROP COLUMN maintenance, DROP COLUMN edited_at, DROP COLUMN sampling,"
        " DROP COLUMN accepted, DROP COLUMN message_edited_at, DROP COLUMN message_at, DROP COLUMN message_partition,"
        " DROP COLUMN message_offset, DROP COLUMN mutes"
    )
    await connection.execute("DROP TRIGGER user_configs_touch ON user_configs")
    await connection.execute("INSERT INTO user_configs (user_id, rules) VALUES ('u1', '[1]')")
    before = await connection.fetchval("SELECT updated_at FROM user_configs")
    await init_sql.apply(database)
    assert await columns(connection) == TABLES
    row = await connection.fetchrow("SELECT * FROM user_configs")
    assert row is not None
    assert (row["rules"], row["maintenance"], row["updated_at"]) == ("[1]", "[]", before)


async def test_new_rights_come_once_to_a_table_that_was_there(database: str, connection: Connection) -> None:
    errors = "SELECT count(*) FROM mqtt_acl WHERE topic LIKE '%/errors'"
    await connection.execute("DELETE FROM mqtt_acl WHERE topic LIKE '%/errors'; COMMENT ON TABLE mqtt_acl IS NULL")
    rules = await connection.fetchval("SELECT count(*) FROM mqtt_acl")
    await init_sql.apply(database)
    assert await connection.fetchval(errors) == 4
    assert await connection.fetchval("SELECT count(*) FROM mqtt_acl") == rules + 4
    await connection.execute("DELETE FROM mqtt_acl WHERE topic LIKE '%/errors'")
    await init_sql.apply(database)
    assert await connection.fetchval(errors) == 0


async def test_the_rules_of_device_accounts_come_once_to_a_table_that_was_there(
    database: str, connection: Connection
) -> None:
    of_devices = "SELECT count(*) FROM mqtt_acl WHERE username = '$device'"
    assert await connection.fetchval(of_devices) == 3
    await connection.execute("DELETE FROM mqtt_acl WHERE username = '$device'")
    await connection.execute("COMMENT ON TABLE mqtt_acl IS 'defaults of 0.2.0'")
    await init_sql.apply(database)
    assert await connection.fetchval(of_devices) == 3
    await connection.execute("DELETE FROM mqtt_acl WHERE username = '$device' AND action = 'subscribe'")
    await init_sql.apply(database)
    assert await connection.fetchval(of_devices) == 2, "what was deleted stays so"


@pytest.mark.parametrize(
    "row",
    [
        "('key', 'alice', 'truck/1')",
        "('key', 'alice', 'tr+ck')",
        "('key', 'alice', '')",
        "('key', 'alice', '${clientid}')",
        "('key', 'al/ice', 'truck')",
        "('key', '${username}', 'truck')",
        "('alice', 'alice', 'truck')",
    ],
)
async def test_an_account_of_a_device_cannot_reach_into_the_topics_of_others(connection: Connection, row: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            f"INSERT INTO mqtt_users (username, user_id, device_id, password_hash) VALUES {row[:-1]}, 'x')"
        )


ACCOUNTS = ("mqtt_users", "mqtt_acl", "gateway_tokens")
# What somebody who has the password of a gateway might try.
FORBIDDEN = (
    "CREATE TABLE mine (id int)", "CREATE SCHEMA mine", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE ROLE mallory", "ALTER ROLE iot_gateway SUPERUSER", "ALTER ROLE iot_admin PASSWORD 'x'",
    "SET ROLE iot_admin", "SET ROLE iot_worker", "SET SESSION AUTHORIZATION iot_admin",
    "GRANT iot_admin TO iot_gateway",
    "SELECT rolpassword FROM pg_authid", "SELECT pg_read_file('postgresql.conf')", "SELECT pg_ls_dir('.')",
    "COPY (SELECT 1) TO PROGRAM 'true'", "COPY (SELECT 1) TO '/tmp/x'", "SELECT lo_import('/etc/passwd')",
    "ALTER SYSTEM SET log_connections = on", "SELECT pg_reload_conf()", "CHECKPOINT",
    "SELECT pg_create_restore_point('x')",
)  # fmt: skip
FORBIDDEN_OF_ACCOUNTS = (
    "INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('mallory', 'mallory', 'x')",
    "UPDATE mqtt_users SET password_hash = 'x'", "UPDATE mqtt_users SET is_superuser = true",
    "SELECT * FROM mqtt_users FOR UPDATE", "SELECT * FROM mqtt_users FOR SHARE",
    "INSERT INTO mqtt_acl (username, permission, action, topic) VALUES ('mallory', 'allow', 'publish', '#')",
    "UPDATE mqtt_acl SET permission = 'allow'",
    "INSERT INTO gateway_tokens (username, token_hash) VALUES ('alice', sha256('token'))",
    "UPDATE gateway_tokens SET expires_at = NULL",
    *(
        f"{before} {table}{after}"
        for table in ACCOUNTS
        for before, after in (("DELETE FROM", ""), ("TRUNCATE", ""), ("DROP TABLE", ""),
            ("DO 'BEGIN LOCK TABLE", "; END'"), ("ALTER TABLE", " DISABLE TRIGGER ALL"), 
            ("COPY", " FROM '/etc/passwd'"), ("CREATE INDEX ON", " (username)"), ("COMMENT ON TABLE", " IS 'x'"))
    ),
)  # fmt: skip


async def test_a_gateway_may_read_accounts_and_nothing_else(connection: Connection, database: str) -> None:
    """Logged in as it, and not with SET ROLE: a superuser who set a role may set another."""
    await connection.execute("INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('alice', 'alice', 'x')")
    await connection.execute("ALTER ROLE iot_gateway PASSWORD 'g4teway'")
    gateway = await asyncpg.connect(f"postgresql://iot_gateway:g4teway@{database.rpartition('@')[2]}")
    taken = []
    try:
        for table in ACCOUNTS:
            await gateway.fetch(f"SELECT * FROM {table}")
        others = (
            "SELECT quote_ident(relname) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = ANY($1)"
        )
        tables = {row[0] for row in await connection.fetch(others, [b"r", b"v", b"m", b"p"])} - set(ACCOUNTS)
        sequences = [row[0] for row in await connection.fetch(others, [b"S"])]
        assert tables >= set(TABLES) - set(ACCOUNTS)
        assert sequences
        tried = [*FORBIDDEN, *FORBIDDEN_OF_ACCOUNTS, *(f"SELECT FROM {table}" for table in tables),
                 *(f"SELECT nextval('{one}')" for one in sequences)]  # fmt: skip
        for statement in tried:
            try:
                await gateway.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                continue
            except asyncpg.PostgresError as error:
                taken.append(f"{statement}: {error!r}")
            else:
                taken.append(statement)
        assert taken == []
        assert await connection.fetchval("SELECT password_hash FROM mqtt_users") == "x"
    finally:
        await gateway.close()
    others = "SELECT DISTINCT grantee FROM information_schema.role_table_grants WHERE table_name = 'gateway_tokens'"
    holders = {row[0] for row in await connection.fetch(others)}
    assert {name for name in holders if name.startswith(("iot_", "emqx"))} == {"iot_gateway", "iot_admin"}


async def test_tokens_go_with_their_account(connection: Connection) -> None:
    await connection.execute("INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('alice', 'alice', 'x')")
    await connection.execute("SET ROLE iot_admin")
    add = "INSERT INTO gateway_tokens (username, token_hash) VALUES ('alice', sha256('token'))"
    await connection.execute(add)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(add)
    await connection.execute("DELETE FROM mqtt_users WHERE username = 'alice'")
    assert await connection.fetchval("SELECT count(*) FROM gateway_tokens") == 0
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute(add)
    await connection.execute("RESET ROLE")


@pytest.fixture
def empty_database(database: str) -> str:
    """`database` without the schema."""

    async def wipe() -> None:
        connection = await asyncpg.connect(database)
        try:
            await connection.execute("DROP EXTENSION IF EXISTS timescaledb CASCADE")
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        finally:
            await connection.close()

    asyncio.run(wipe())
    return database


async def test_an_empty_database_by_many_at_once(empty_database: str) -> None:
    await asyncio.gather(*(init_sql.apply(empty_database) for _ in range(4)))
    opened = await asyncpg.connect(empty_database)
    assert await columns(opened) == TABLES
    await opened.close()


async def test_timescaledb_is_used_where_it_is_loaded(database: str, connection: Connection) -> None:
    if not await connection.fetchval("SELECT current_setting('timescaledb.max_background_workers', true)"):
        pytest.skip("this server has no TimescaleDB")
    jobs = "SELECT proc_name FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL ORDER BY 1"
    assert [row[0] for row in await connection.fetch(jobs)] == [
        "policy_compression",
        "policy_refresh_continuous_aggregate",
        "policy_refresh_continuous_aggregate",
        "policy_retention",
    ]
    await connection.execute(
        "INSERT INTO raw_telemetry VALUES (now(), 'u', 'd', 1, 20, 1), (now(), 'u', 'd', 2, 22, 1)"
    )
    assert await connection.fetchval("SELECT sum(n)::int FROM telemetry_1h") == 2


async def test_a_table_with_rows_becomes_a_hypertable(empty_database: str) -> None:
    opened = await asyncpg.connect(empty_database)
    if not await opened.fetchval("SELECT current_setting('timescaledb.max_background_workers', true)"):
        await opened.close()
        pytest.skip("this server has no TimescaleDB")
    await opened.execute(
        "CREATE TABLE raw_telemetry (time timestamptz NOT NULL, user_id text NOT NULL, device_id text NOT NULL, "
        "sequence_id bigint NOT NULL, temperature float8, battery int, extra_data jsonb NOT NULL DEFAULT '{}', "
        "PRIMARY KEY (time, user_id, device_id, sequence_id)); "
        "INSERT INTO raw_telemetry VALUES (now(), 'u', 'd', 1)"
    )
    await opened.close()
    await init_sql.apply(empty_database)
    opened = await asyncpg.connect(empty_database)
    assert await opened.fetchval("SELECT count(*) FROM timescaledb_information.chunks") == 1
    assert await opened.fetchval("SELECT count(*) FROM raw_telemetry") == 1
    await opened.close()


async def test_updated_at_moves_with_every_change_and_nobody_can_set_it(connection: Connection) -> None:
    stamp = "SELECT updated_at FROM user_configs WHERE user_id = 'u1'"
    await connection.execute("INSERT INTO user_configs (user_id, updated_at) VALUES ('u1', '2000-01-01')")
    made = await connection.fetchval(stamp)
    assert made.year > 2000
    await connection.execute("UPDATE user_configs SET rules = '[]'")
    assert await connection.fetchval(stamp) == made
    async with connection.transaction():  # now() stands still in a transaction, updated_at does not
        await connection.execute("UPDATE user_configs SET rules = '[1]', updated_at = '2000-01-01'")
        first = await connection.fetchval(stamp)
        await connection.execute("UPDATE user_configs SET rules = '[2]'")
        second = await connection.fetchval(stamp)
    assert made < first < second


async def test_emqx_asks_what_it_asks(connection: Connection) -> None:
    """The queries of emqx.conf, prepared as EMQX does."""
    await connection.execute("INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('u1', 'u1', '$2b$x')")
    authenticate = (
        "SELECT password_hash, salt, is_superuser FROM mqtt_users WHERE username = $1 AND $2 !~ '[/+#[:cntrl:]]' "
        "AND (clientid IS NULL OR clientid = $2) LIMIT 1"
    )
    assert tuple(await connection.fetchrow(authenticate, "u1", "d1") or ()) == ("$2b$x", "", False)
    assert await connection.fetchrow(authenticate, "u1", "+") is None
    authorize = (
        "SELECT permission, action, topic, qos, retain FROM mqtt_acl WHERE username IN ($1, '$all') "
        "AND (clientid IS NULL OR clientid = $2) ORDER BY priority, id"
    )
    topics = [row["topic"] for row in await connection.fetch(authorize, "vector_bridge", "vector-bridge-1")]
    assert topics[0] == "users/+/devices/+/telemetry"
    assert "users/${username}/devices/${clientid}/telemetry" in topics
    for name in ("a/b", "+", "#", "$all", ""):
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                "INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ($1, 'u', 'h')", name
            )


async def test_roles_have_no_more_than_their_work_needs(connection: Connection) -> None:
    rows = await connection.fetch(
        "SELECT grantee || ' ' || table_name || ' ' || string_agg(left(privilege_type, 1), '' ORDER BY privilege_type) "
        "FROM information_schema.role_table_grants WHERE table_schema = 'public' AND table_name NOT LIKE 'telemetry%' "
        "AND grantee IN "
        "('iot_worker', 'iot_notifier', 'iot_reader', 'iot_admin', 'iot_dashboard', 'iot_gateway', 'emqx_ro') "
        "GROUP BY grantee, table_name"
    )
    assert {row[0] for row in rows} == {
        "iot_worker raw_telemetry IS",
        "iot_worker user_configs ISU",
        "iot_worker active_alerts DISU",
        "iot_worker muted_alerts DISU",
        "iot_worker device_status ISU",
        "iot_worker rolling_averages ISU",
        "iot_worker alert_history IS",
        "iot_notifier alert_history ISU",
        "iot_notifier active_alerts S",
        "iot_notifier user_channels S",
        "iot_reader raw_telemetry S",
        "iot_reader user_configs S",
        "iot_reader active_alerts S",
        "iot_reader muted_alerts S",
        "iot_reader alert_history S",
        "iot_reader device_status S",
        "iot_reader rolling_averages S",
        "iot_dashboard raw_telemetry S",
        "iot_dashboard active_alerts S",
        "iot_dashboard muted_alerts S",
        "iot_dashboard alert_history S",
        "iot_dashboard device_status S",
        "iot_dashboard rolling_averages S",
        "emqx_ro mqtt_users S",
        "emqx_ro mqtt_acl S",
        "iot_gateway mqtt_users S",
        "iot_gateway mqtt_acl S",
        "iot_gateway gateway_tokens S",
        "iot_admin gateway_tokens DISU",
        "iot_worker iot_migrations S",
        "iot_reader iot_migrations S",
        "iot_admin iot_migrations S",
        "iot_admin mqtt_users DISU",
        "iot_admin mqtt_acl DISU",
        "iot_admin user_configs DISU",
        "iot_admin user_channels DISU",
        "iot_admin active_alerts S",
        "iot_admin muted_alerts S",
        "iot_admin alert_history S",
        "iot_admin device_status S",
        "iot_admin rolling_averages S",
        "iot_admin raw_telemetry S",
    }


async def test_errors_say_what_to_do(database: str) -> None:
    server = database.rpartition("/")[0]
    with pytest.raises(PermanentError, match=r"3D000 .*create the database"):
        await init_sql.apply(f"{server}/nobody_made_this")
    with pytest.raises(TransientError, match=r"init\.sql: ConnectionRefusedError"):
        await init_sql.apply("postgresql://postgres@127.0.0.1:1/postgres")
    with pytest.raises(PermanentError, match="small letters"):
        await init_sql.make_database(database, 'x"; DROP DATABASE postgres')


async def test_the_history_of_the_first_version_gets_the_longer_key(connection: Connection, database: str) -> None:
    await connection.execute(
        "ALTER TABLE alert_history DROP CONSTRAINT alert_history_pkey; ALTER TABLE alert_history DROP COLUMN repeat; "
        "ALTER TABLE alert_history ADD PRIMARY KEY (alert_id, status); INSERT INTO alert_history "
        "(alert_id, status, user_id, device_id, rule_id, sent_at) VALUES ('a', 'FIRING', 'u', 'd', 'r', now())"
    )
    for _ in range(2):
        await init_sql.apply(database)
    rows = await connection.fetch("SELECT alert_id, status, repeat, sent_at IS NOT NULL FROM alert_history")
    assert [tuple(row) for row in rows] == [("a", "FIRING", 0, True)]
    again = (
        "INSERT INTO alert_history (alert_id, status, repeat, user_id, device_id, rule_id) "
        "VALUES ($1, $2, $3, 'u', 'd', 'r')"
    )
    await connection.execute(again, "a", "FIRING", 1)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(again, "a", "FIRING", 1)
