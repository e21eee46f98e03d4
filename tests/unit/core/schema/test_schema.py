"""A developer's struct: what becomes of its fields, and what is refused in words that say what would be right."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Raw, Struct, defstruct, field

from app.core.rules.field_readers import reader
from app.core.rules.parse import parse
from app.core.rules.prefilter import prefilter_for
from app.core.rules.rule import InvalidRules, RuleSet
from app.core.sampling.change_of_value import StoredChain
from app.core.sampling.compile import compile_sampling
from app.core.schema.column_types import Bits, Fields, Int16, Int32
from app.core.schema.schema import schema_of
from app.errors import SettingsError
from app.settings import Settings
from app.settings.schema_struct import named
from tests import DEFAULT
from tests.unit.records import NOW


class Kinds(Struct):
    """Every type, in every spelling."""

    plain: float
    maybe: float | None
    nothing: float | None = None
    whole: int | None = None
    half: Int32 | None = None
    quarter: Annotated[Int16 | None, Fields("q", "quart")] = None
    marked: Annotated[int, Bits(16)] | None = None
    yes: bool | None = None
    words: str | None = None
    exact: Annotated[Decimal | None, Fields("ex")] = None


class Camel(Struct, rename="camel"):
    """Names as msgspec itself would have them in JSON."""

    oil_temp: float | None = None
    rpm: int | None = field(default=None, name="engineRPM")
    level: Annotated[int | None, Fields("lvl")] = None


def test_types_and_fields() -> None:
    found = schema_of(Kinds)
    assert [(one.name, one.type.sql, one.required, one.fields) for one in found.columns] == [
        ("plain", "double precision", True, ("plain",)),
        ("maybe", "double precision", False, ("maybe",)),
        ("nothing", "double precision", False, ("nothing",)),
        ("whole", "bigint", False, ("whole",)),
        ("half", "integer", False, ("half",)),
        ("quarter", "smallint", False, ("q", "quart")),
        ("marked", "smallint", False, ("marked",)),
        ("yes", "boolean", False, ("yes",)),
        ("words", "text", False, ("words",)),
        ("exact", "numeric", False, ("ex",)),
    ]
    assert [one.name for one in found.columns if one.careful] == ["quarter", "exact"]
    assert found.names[:5] == ("time", "user_id", "device_id", "sequence_id", "plain")
    assert (found.names[-1], found.types[-1]) == ("extra_data", "jsonb")
    assert len(found.names) == len(found.types) == 15


def test_names_that_msgspec_knows() -> None:
    found = schema_of(Camel)
    assert [(one.name, one.fields) for one in found.columns] == [
        *[("oil_temp", ("oilTemp",)), ("rpm", ("engineRPM",)), ("level", ("lvl",))]
    ]
    names = {"oilTemp": "oil_temp", "engineRPM": "rpm", "lvl": "level"}
    assert {name: one.name for name, one in found.keys.items()} == names | {name: name for name in names.values()}


def test_the_default_is_the_table_of_init_sql() -> None:
    assert DEFAULT.names == ("time", "user_id", "device_id", "sequence_id", "temperature", "battery", "extra_data")
    assert Settings().telemetry_schema is DEFAULT


def test_a_struct_without_fields_keeps_everything_in_extra_data() -> None:
    found = schema_of(defstruct("Nothing", []))
    made = found.reading(NOW, "u", "d", 1, {}, '{"a":1}')
    assert found.row(made) == (NOW, "u", "d", 1, '{"a":1}')


MARK = Meta(ge=0)
REFUSED: list[tuple[Any, list[str]]] = [
    (("Weight", float), ["X.Weight: a column is 1 to 63 small letters, digits and _"]),
    (("a" * 64, float), ["X.aaa", "1 to 63 small letters"]),
    (("größe", float), ["X.größe: a column is"]),
    (("sequence_id", int), ["X.sequence_id: a column is", "none of", "sequence_id"]),
    (("extra_data", str), ["X.extra_data", "none of"]),
    (("xmin", int), ["X.xmin", "none of", "xmin"]),
    (("weight", list[int]), ["X.weight: list[int] is no type of a column: float, int, Int32, Int16, bool, str or"]),
    (("weight", int | float), ["X.weight: int | float is no type of a column"]),
    (("weight", bytes), ["X.weight: bytes is no type", "with | None when readings may lack it"]),
    (("weight", Literal["a", "b"]), ["X.weight:", "is no type of a column"]),
    (("weight", Annotated[float, MARK]), ["X.weight: msgspec.Meta(ge=0)", "only Fields(...)", "CHECK in SQL"]),
    (("weight", Annotated[float, Fields()]), ["X.weight: Fields() names no JSON field, as in Fields("]),
    (("weight", Annotated[float, Fields("")]), ["X.weight: '' is no JSON field", "without quotes"]),
    (("weight", Annotated[float, Fields('a"b')]), ["is no JSON field"]),
    (("weight", Annotated[float, Fields("\x7f0")]), ["is no JSON field"]),
    (("weight", Annotated[float, Fields("kg", 5)]), ["X.weight: 5 is no JSON field"]),  # type: ignore[arg-type]
    (("weight", Annotated[float, Fields("time")]), ["X.weight: the JSON field time is read for every schema; name an"]),
    (("weight", Annotated[float, Fields("kg", "other")]), ["X.other: the JSON field other goes to weight already"]),
    (("weight", float, 1.5), ["X.weight: the default 1.5 would never be stored", "write `= None` or nothing"]),
    (("weight", float, field(default_factory=list)), ["X.weight: the default 'of a default_factory'"]),
    (("weight", float, None), ["X.weight: its default is None, but its type has no | None"]),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_a_refusal_names_the_field_and_what_is_right(wrong: Any, words: list[str]) -> None:
    struct = defstruct("X", [wrong, ("other", float | None, None)], kw_only=True)
    with pytest.raises(SettingsError) as refused:
        schema_of(struct)
    for word in words:
        assert word in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_all_that_is_wrong_is_named_at_once() -> None:
    struct = defstruct("X", [("A", float), ("fine", float), ("b", bytes), ("c", Annotated[float, Fields("user_id")])])
    with pytest.raises(SettingsError) as refused:
        schema_of(struct)
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["X.A", "X.b", "X.c"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mydata", "names no struct; give module:Struct"),
        (":Tick", "names no struct"),
        ("no_such_module:Tick", "cannot import no_such_module: No module named"),
        ("examples.market:Nothing", "Nothing is no msgspec.Struct of examples.market"),
        ("examples.market:RULES", "RULES is no msgspec.Struct"),
        ("decimal:Decimal", "Decimal is no msgspec.Struct of decimal"),
        ("app.core.model.records:Rejected", "Rejected.record"),
    ],
)
def test_a_name_that_is_no_schema(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        named(name)
    assert words in str(refused.value)


class Machine(Struct):
    """For rules."""

    price: Annotated[Decimal | None, Fields("p")] = None
    on: bool | None = None
    mode: str | None = None
    rpm: Annotated[int | None, Fields("n", "speed")] = None


MACHINE = schema_of(Machine)


def test_each_schema_has_its_own_columns_in_the_same_process() -> None:
    """A key that is a column of one schema is a field of extra_data under another."""
    of_machine = MACHINE.reading(NOW, "u", "d", 1, {"battery": Raw(b"7")}, '{"battery":7}', None, None, None, 900)
    of_default = DEFAULT.reading(NOW, "u", "d", 1, {"rpm": Raw(b"12")}, '{"rpm":12}', None, 80)
    for key, machine, default in (("rpm", 900, 12), ("battery", 7, 80)):
        assert reader(MACHINE, key, "number")(of_machine) == machine
        assert reader(DEFAULT, key, "number")(of_default) == default


def test_a_rule_reads_a_column_by_its_name_and_by_its_fields() -> None:
    made = MACHINE.reading(NOW, "u", "d", 1, {}, "{}", Decimal("1.5"), True, "run", 900)
    numbers = {key: reader(MACHINE, key, "number")(made) for key in ("price", "p", "rpm", "n", "speed", "on", "mode")}
    assert numbers == {"price": 1.5, "p": 1.5, "rpm": 900, "n": 900, "speed": 900, "on": None, "mode": None}
    assert type(numbers["price"]) is float
    assert reader(MACHINE, "on", "truth")(made) is True
    assert reader(MACHINE, "mode", "text")(made) == "run"
    assert reader(MACHINE, "mode", "truth")(made) is None
    assert reader(MACHINE, "price", "number")(MACHINE.reading(NOW, "u", "d", 1, {}, "{}")) is None


def test_change_of_value_of_own_columns() -> None:
    """What is no number cannot be within a dead-band: such a reading is stored."""
    keys = {"speed": {"absolute": 10.0}, "mode": {"absolute": 10.0}}
    (of_all,) = compile_sampling({"cov": [{"keys": keys, "heartbeat_seconds": 3600}]}, MACHINE).policies
    policy, chain = of_all.policy, StoredChain(0)

    def says_more(second: int, rpm: int | None, mode: str | None) -> bool:
        made = MACHINE.reading(NOW, "u", "d", 1, {}, "{}", None, None, mode, rpm)
        return chain.must_store(made, second * 1_000_000, policy)

    said = [
        says_more(at, rpm, mode) for at, (rpm, mode) in enumerate([(900, None), (905, None), (905, "run"), (911, None)])
    ]
    assert said == [True, False, True, False]


@pytest.mark.parametrize("key", ["price", "p", "rpm", "speed"])
def test_a_column_of_numbers_is_compared_with_a_number(key: str) -> None:
    found = parse(f'[{{"key":"{key}","operator":"==","threshold":"much","message":"m"}}]', "u", MACHINE)
    assert isinstance(found, InvalidRules)
    assert f'"much" is not a number, which the key {key} needs' in found.reasons[0]


def test_quick_looks_agree_with_the_rules() -> None:
    rules = parse(
        '[{"key":"p","operator":">","threshold":10,"message":"dear"},'
        '{"key":"speed","operator":">","threshold":900,"message":"fast"},'
        '{"key":"rpm","operator":"<=","threshold":10,"message":"slow"},'
        '{"key":"on","operator":"==","threshold":false,"message":"off"},'
        '{"key":"mode","operator":"==","threshold":"halt","message":"halt"}]',
        "u",
        MACHINE,
    )
    assert isinstance(rules, RuleSet)
    quiet = prefilter_for(rules.rules, MACHINE)
    for price in (None, Decimal(10), Decimal("10.000001")):
        for on in (None, True, False):
            for mode in (None, "run", "halt"):
                for rpm in (None, 10, 11, 900, 901):
                    made = MACHINE.reading(NOW, "u", "d", 1, {}, "{}", price, on, mode, rpm)
                    holds = (
                        (price or 0) > 10 or on is False or mode == "halt" or (rpm is not None and not 10 < rpm <= 900)
                    )
                    assert not (quiet(made) and holds)
                    if rpm not in (900, 10):  # on the border it may ask for a closer look
                        assert quiet(made) is not holds
