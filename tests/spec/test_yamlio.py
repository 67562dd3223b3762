import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.spec import yamlio
from simdeep.spec.yamlio import load_document, parse_value


def document(tmp_path, text):
    file = tmp_path / "file.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_document(file)


def messages(tmp_path, text):
    with pytest.raises(InputError) as caught:
        document(tmp_path, text)
    return [str(p).removeprefix(str(tmp_path) + "/") for p in caught.value.problems]


def test_plain_data_and_the_line_of_every_key(tmp_path):
    doc = document(tmp_path, "a: 1\n\nb:\n  c: [x, 2.5]\n  d:\n    - e: true\n    - null\n")
    assert doc.data == {"a": 1, "b": {"c": ["x", 2.5], "d": [{"e": True}, None]}}
    lines = {"a": 1, "b": 3, "b.c": 4, "b.c.1": 4, "b.d": 5, "b.d.0.e": 6, "b.d.1": 7}
    assert {key: doc.line_of(key) for key in lines} == lines
    assert doc.line_of(("b", "missing", "deeper")) == 3
    assert doc.place("b.d").endswith("file.yaml:5")


# YAML 1.2.2, section 10.3.2: the core schema's scalars, and what YAML 1.1 made of them.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("14.8e12", 14.8e12),
        ("-.5", -0.5),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("''", ""),
        ("'12'", "12"),
        ("400 Gbit/s", "400 Gbit/s"),
        ("[4, 4, 1]", [4, 4, 1]),
    ],
)
def test_yaml_1_2_core_schema(text, value):
    read = parse_value(text, "--set a=b")
    assert read == value
    assert type(read) is type(value)


def test_all_problems_of_a_file_at_once(tmp_path):
    text = "a: .nan\nb: 1\nb: 2\nc: &x 3\nd: *x\ne: !!set 4\nf: -.inf\ng: 1e999\n"
    assert messages(tmp_path, text) == [
        "file.yaml:1: a: .nan is not a finite number; every number must be finite",
        "file.yaml:3: b: the key is given twice, first on line 2",
        "file.yaml:4: c: anchor &x: anchors and aliases are refused; write the value out",
        "file.yaml:5: d: alias *x: anchors and aliases are refused; write the value out",
        "file.yaml:6: e: tag tag:yaml.org,2002:set: tags are refused; write a plain value",
        "file.yaml:7: f: -.inf is not a finite number; every number must be finite",
        "file.yaml:8: g: 1e999 is not a finite number; every number must be finite",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "file.yaml: the file is empty"),
        (b"# only a comment\n", "file.yaml: the file is empty"),
        (b"\x7fELF\x02\x01\x00\x00\xff\xfe", "is it a binary file?"),
        (b"a: 1\x00", "NUL byte"),
        (b"a: \xff\xfe", "not UTF-8"),
        (b"a: 1\n b: 2\n", "file.yaml:2: not valid YAML"),
        (b"a: [1, 2\n", "not valid YAML"),
        (b"a: \x07", "not valid YAML"),
        (b"a: 1\n---\nb: 2\n", "file.yaml:2: a second document"),
        (b"%YAML 1.1\n---\na: yes\n", "YAML 1.2"),
        (b"? [a, b]\n: 1\n", "a key must be plain text"),
        (b"a: " + b"9" * 5000, "5000 digits"),
        (b"*a : 1\n", "not valid YAML|plain text"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, says):
    found = messages(tmp_path, text)
    assert len(found) == 1
    assert any(option in found[0] for option in says.split("|")), found


def test_directories_missing_files_and_bad_paths(tmp_path):
    for path, says in [
        (tmp_path, "is a directory"),
        (tmp_path / "none.yaml", "no such file"),
        ("a\0b", "cannot be read|no such file"),
        ("x" * 5000, "cannot be read|no such file"),
        ("/dev/null", "not a regular file"),
    ]:
        with pytest.raises(InputError) as caught:
            load_document(path)
        assert any(option in str(caught.value) for option in says.split("|"))


BILLION_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BILLION_LAUGHS, "aliases are refused"),
        ("a: " + "x" * (1 << 21), "larger than 256 KiB"),
        ("[" * 100_000, "nested deeper than 24 levels"),
        ("{a: " * 50_000, "nested deeper than 24 levels"),
        ("- " * 100_000, "nested deeper than 24 levels"),
        ("\n".join(" " * i + "a:" for i in range(600)), "nested deeper than 24 levels"),
        ("[" + "1," * 100_000 + "]", "more than 20000 values"),
        ("a: 1\n" * 30_000, "too many problems"),
    ],
)
def test_yaml_bombs_end_quickly(tmp_path, text, says):
    start = time.perf_counter()
    found = messages(tmp_path, text)
    assert says in "\n".join(found)
    assert len(found) <= yamlio.MAX_PROBLEMS + 1
    assert time.perf_counter() - start < 15


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain)
def test_json_reads_as_json(data):
    assert parse_value(json.dumps(data, ensure_ascii=False), "") == data


@given(st.text(max_size=60))
def test_any_text_is_finite_data_or_an_input_error(text):
    try:
        value = parse_value(text, "--set a=b", "a")
    except InputError:
        return
    assert not isinstance(value, float) or math.isfinite(value)
