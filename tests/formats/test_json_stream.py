"""A JSON file read value by value: the same values as the standard library's, whatever the cuts between the reads."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.errors import DataError
from tis_ray.formats import json_stream
from tis_ray.formats.json_stream import JsonStream

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def short_reads(monkeypatch):
    """Reads of three characters, and no patience beyond what a number or a name needs."""
    monkeypatch.setattr(json_stream, "_CHUNK", 3)


def items_of(path):
    with JsonStream(path) as stream:
        values = list(stream.items())
        stream.end()
    return values


@given(values=st.lists(VALUES, max_size=5), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_items_are_those_of_the_standard_library(tmp_path_factory, values, indent, ascii_only):
    path = tmp_path_factory.mktemp("json") / "list.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=ascii_only), errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_stream, "_CHUNK", 3)
        assert items_of(path) == values
    assert items_of(path) == values


def test_members_come_one_by_one_and_may_be_skipped(tmp_path, short_reads):
    path = tmp_path / "object.json"
    path.write_text('{"info": {"year": 2018}, "annotations": [{"id": 1}, {"id": 2}], "images": [{"id": 7}], "n": 12 }')
    found = {}
    with JsonStream(path) as stream:
        for key in stream.members():
            if key in ("images", "n"):
                found[key] = stream.value()
            else:
                stream.skip()
        stream.end()
    assert found == {"images": [{"id": 7}], "n": 12}


def test_a_number_cut_by_the_end_of_a_read_is_read_on(tmp_path, short_reads):
    path = tmp_path / "list.json"
    path.write_text("[1234567,-1.25e-3,NaN,-Infinity,true]")
    assert str(items_of(path)) == "[1234567, -0.00125, nan, -inf, True]"


BAD = {
    "empty": ("", "cut short at line 1, column 1: Expecting '['"),
    "no JSON": ("<html>", "not valid JSON at line 1, column 1"),
    "cut in a list": ('[\n{"a": 1},\n', "cut short at line 3, column 1: Expecting value"),
    "cut after an item": ('[{"a": 1}', "cut short at line 1, column 10: Expecting ',' delimiter"),
    "cut in a text": ('[{"a": "x', "cut short at line 1, column 8: Unterminated string"),
    "cut in an object": ('[\n  {"a": 1', "cut short at line 2, column 10: Expecting ',' delimiter"),
    "no comma": ('[{"a": 1}\n {"b": 2}]', "not valid JSON at line 2, column 2: Expecting ',' delimiter"),
    "no value": ('[{"a": }, {"b": 2}]', "not valid JSON at line 1, column 8: Expecting value"),
    "bare word": ("[nan, 1, 2]", "not valid JSON at line 1, column 2: Expecting value"),
    "something behind": ("[1]\n\n x", "not valid JSON at line 3, column 2: Extra data"),
    "nested too deeply": ("[" * 200_000, "nested too deeply"),
    "number without end": ("[" + "9" * 5000 + ", 1]", "not valid JSON at line 1, column 2: Exceeds the limit"),
}


@pytest.mark.parametrize("chunk", [3, 1 << 20], ids=["short reads", "one read"])
@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_no_json_is_refused_with_its_place(tmp_path, monkeypatch, chunk, text, message):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        items_of(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: cannot be read \(No such file"):
        items_of(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory"):
        items_of(tmp_path)
    (tmp_path / "picture.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"picture\.json: expected a JSON file; got bytes that are not UTF-8"):
        items_of(tmp_path / "picture.json")


def test_memory_follows_one_value_and_not_the_file(tmp_path):
    path = tmp_path / "long.json"
    with path.open("w") as file:
        file.write("[" + ",".join([json.dumps({"counts": "x" * 1000})] * 30_000) + "]")  # 30 MB
    tracemalloc.start()
    try:
        with JsonStream(path) as stream:
            assert sum(len(value["counts"]) for value in stream.items()) == 30_000_000
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_a_fault_at_the_start_of_a_long_file_is_told_without_reading_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK", 100)
    path = tmp_path / "long.json"
    path.write_text('[{"a": oops}' + ", 1" * 10_000 + "]")
    with JsonStream(path) as stream:
        with pytest.raises(DataError, match="line 1, column 8: Expecting value"):
            next(stream.items())
        assert stream._file.tell() < 1000


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "list.json"
    path.write_bytes(b"\xef\xbb\xbf[1, 2]")
    assert items_of(path) == [1, 2]
