"""JSON Patch: the examples of RFC 6902, appendix A, what each operation refuses, and numbers that stay as they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deadletters.json_patch import PatchError, apply, dump, parse, patch_of


def patched(document: Any, *operations: dict[str, Any]) -> Any:
    return json.loads(dump(apply(patch_of(json.dumps(operations).encode()), parse(json.dumps(document).encode()))))


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


APPENDIX_A: list[tuple[str, Any, list[dict[str, Any]], Any]] = [
    ("A.1", {"foo": "bar"}, [add("/baz", "qux")], {"baz": "qux", "foo": "bar"}),
    ("A.2", {"foo": ["bar", "baz"]}, [add("/foo/1", "qux")], {"foo": ["bar", "qux", "baz"]}),
    ("A.3", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ("A.4", {"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    (
        "A.5", {"baz": "qux", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        "A.6", {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7", {"foo": ["all", "grass", "cows", "eat"]}, [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8", {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    ("A.9", {"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], None),
    ("A.10", {"foo": "bar"}, [add("/child", {"grandchild": {}})], {"foo": "bar", "child": {"grandchild": {}}}),
    ("A.11", {"foo": "bar"}, [{**add("/baz", "qux"), "xyz": 123}], {"foo": "bar", "baz": "qux"}),
    ("A.12", {"foo": "bar"}, [add("/baz/bat", "qux")], None),
    ("A.14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ("A.15", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], None),
    ("A.16", {"foo": ["bar"]}, [add("/foo/-", ["abc", "def"])], {"foo": ["bar", ["abc", "def"]]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "document", "operations", "expected"), APPENDIX_A, ids=[one[0] for one in APPENDIX_A])
def test_the_examples_of_the_standard(
    name: str, document: Any, operations: list[dict[str, Any]], expected: Any
) -> None:
    if expected is None:
        with pytest.raises(PatchError, match="operation 0"):
            patched(document, *operations)
    else:
        assert patched(document, *operations) == expected


@pytest.mark.parametrize(
    ("document", "operation"),
    [
        ({}, {"op": "remove", "path": "/a"}),
        ({}, {"op": "replace", "path": "/a", "value": 1}),
        ([1], {"op": "remove", "path": "/1"}),
        ([1], {"op": "remove", "path": "/-"}),
        ([1], add("/01", 0)),
        ([1], add("/2", 0)),
        ([1], add("/-1", 0)),
        ([1], add("/" + "9" * 30, 0)),
        ("text", add("/a", 0)),
        ({"a": 1}, add("/a/b", 0)),
        ({"a": {"b": 1}}, {"op": "move", "from": "/a", "path": "/a/b"}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": True}),
        ({"a": [1, 2]}, {"op": "test", "path": "/a", "value": [1]}),
    ],
)
def test_what_does_not_fit_is_refused(document: Any, operation: dict[str, Any]) -> None:
    with pytest.raises(PatchError):
        patched(document, operation)


@pytest.mark.parametrize(
    "patch",
    [
        b"", b"{}", b"[1]", b"[{}]", b'[{"op":"add","path":"/a"}]', b'[{"op":"move","path":"/a"}]', b"[NaN]", b"\xff",
        b'[{"op":"add","path":"a","value":1}]', b'[{"op":"add","path":"/~2","value":1}]', b'[{"op":"spam","path":""}]',
        b'[{"op":["add"],"path":""}]', b'[{"op":"test","path":null,"value":1}]', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_wrong_patch_is_named(patch: bytes) -> None:
    with pytest.raises(PatchError):
        patch_of(patch)


def test_the_whole_document() -> None:
    assert patched({"a": 1}, add("", [])) == []
    assert patched({"a": 1}, {"op": "replace", "path": "", "value": 7}) == 7
    assert patched({"a": 1}, {"op": "remove", "path": ""}) is None
    assert patched({"a": 1}, {"op": "test", "path": "", "value": {"a": 1.0}}) == {"a": 1}
    assert patched({"a": 1}, {"op": "move", "from": "/a", "path": "/a"}) == {"a": 1}


def test_a_value_of_the_patch_is_never_shared_between_two_documents() -> None:
    patch = patch_of(b'[{"op":"add","path":"/a","value":[]},{"op":"add","path":"/a/-","value":1}]')
    assert [dump(apply(patch, {})) for _ in range(2)] == [b'{"a":[1]}'] * 2
    copied = patch_of(b'[{"op":"copy","from":"/a","path":"/b"},{"op":"add","path":"/b/-","value":1}]')
    assert dump(apply(copied, {"a": []})) == b'{"a":[],"b":[1]}'


def test_numbers_stay_as_they_are_written() -> None:
    document = b'{"a":1.50,"b":12345678901234567890123456789,"c":1E5,"d":-0,"e":0.1}'
    patch = patch_of(b'[{"op":"test","path":"/c","value":100000.0},{"op":"add","path":"/f","value":2.0}]')
    assert dump(apply(patch, parse(document))) == document[:-1] + b',"f":2.0}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "", "0", "~", "/"]), inner),
    max_leaves=8,
)
POINTERS = st.lists(st.sampled_from(["a", "b", "0", "1", "-", "", "~0", "~1", "00"]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)


@given(JSON, st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), POINTERS, POINTERS, JSON)
def test_any_patch_is_applied_or_refused(document: Any, op: str, path: str, source: str, value: Any) -> None:
    operation = {"op": op, "path": path, "from": source, "value": value}
    try:
        found = patched(document, operation)
    except PatchError:
        return
    if op in ("add", "replace") and not path.endswith("-"):
        assert patched(found, {"op": "test", "path": path, "value": value}) == found
