"""Annotation files as numbers: any JSON, read in windows, with bad rows named."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_files import dialogue, write_rows

from vla.data.errors import BadExample
from vla.data.language import annotation_scan
from vla.data.language.annotation_scan import num_words, read_annotations
from vla.errors import UserError

ROWS = [
    dialogue("<image>\nWas ist das?", "Ein Würfel – 立方体 \U0001f600", image="a/é.png", id=7),
    dialogue("Hello  there", "Hi\n\nyou"),
    dialogue("What?", "<image>", "x", 'quotes " and \\ and ] and }', image="b.png", nested=[{"deep": [[1.5e3, None]]}]),
    dialogue("no image", "none", image=None),
]


@pytest.fixture(params=[1, 7, 2**24])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes are read at once: windows end everywhere, inside characters, too."""
    monkeypatch.setattr(annotation_scan, "CHUNK_BYTES", request.param)
    monkeypatch.setattr(annotation_scan, "_LONGEST_ATOM", 400)
    return request.param


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_are_found(tmp_path: Path, chunk: int, indent: int | None, ascii_only: bool, mark: bytes) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(mark + json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only).encode())
    found = read_annotations(path)
    assert [found.read(row) for row in range(len(found))] == ROWS
    assert found.images() == [found.image(row) for row in range(4)] == ["a/é.png", "", "b.png", ""]
    assert found.is_multimodal.tolist() == [True, False, True, False]
    assert found.turns.tolist() == [2, 2, 4, 2]
    texts = [[turn["value"] for turn in row["conversations"]] for row in ROWS]
    assert found.words.tolist() == [sum(len(text.split()) for text in row) for row in texts]
    besides = [sum(len(text.replace("<image>", "").split()) for text in row) for row in texts]
    assert found.words_besides_image.tolist() == besides
    assert not found.problems and found.label(2) == "rows.json[2]"


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=9) | st.integers() | st.none())), st.booleans())
def test_any_objects_have_the_right_places(rows: list[dict], ascii_only: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        path.write_text(json.dumps(rows, ensure_ascii=ascii_only), encoding="utf-8")
        found = read_annotations(path)
        assert [found.read(row) for row in range(len(found))] == rows
        assert len(found.problems) == len(rows)


@given(st.lists(st.sampled_from([" ", "a", "bc", "\n", "\t", "\x1f", "\xa0", "\u3000", "é", "<image>"])).map("".join))
def test_words_are_what_stands_between_spaces(text: str) -> None:
    assert num_words(text) == len(text.split())


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (17, "must be an object, got int"),
        ([], "must be an object, got list"),
        ({}, "'conversations' must be a list of at least two turns"),
        (dialogue("only a question"), "'conversations' must be a list of at least two turns"),
        ({"conversations": ["a", "b"]}, "turn 0 must have a text 'value'"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]}, "turn 1 must have a text 'value'"),
        ({"conversations": [{"from": "gpt", "value": "a"}] * 2}, "turn 0 must be from 'human', got 'gpt'"),
        ({"conversations": [{"from": "human", "value": "a"}] * 2}, "turn 1 must be from 'gpt', got 'human'"),
        (dialogue("a", "b", image=3), "'image' must be a path, got 3"),
        (dialogue("a", "b", image=""), "'image' must be a path, got ''"),
        (dialogue("a", "b", image="a\nb"), "'image' must be a path, got 'a\\nb'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: Any, problem: str) -> None:
    found = read_annotations(write_rows(tmp_path / "rows.json", [ROWS[0], row, ROWS[1]]))
    assert found.problems == {1: problem} and len(found) == 3
    assert found.read(2) == ROWS[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"rows.json: must hold a JSON list of rows"),
        ('{"a": 1}', r"rows.json: must hold a JSON list of rows"),
        ("[", r"rows.json\[0\]: not JSON, or cut off"),
        ('[{"a": 1}, {"b": "cut', r"rows.json\[1\]: not JSON, or cut off"),
        ('[{"a": 1}, {"b": 2}', r"rows.json\[1\]: not JSON, or cut off|rows.json\[2\]: not JSON, or cut off"),
        ('[{"a": 1}, {"b": 2,}, {}]', r"rows.json\[1\]: not JSON, or cut off"),
        ('[{"a": 1}, nothing]', r"rows.json\[1\]: not JSON, or cut off"),
        ('[{"a": "\udcff"}]', r"rows.json: not UTF-8 text"),
    ],
)
def test_files_that_are_no_json(tmp_path: Path, chunk: int, text: str, message: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message) as raised:
        read_annotations(path)
    assert "\n" not in str(raised.value)


def test_a_fault_is_found_without_reading_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a" 1}' + ', {"b": 2}' * 1000 + "]")
    monkeypatch.setattr(annotation_scan, "CHUNK_BYTES", 600)
    sizes: list[int] = []
    read_more = annotation_scan._Window.read_more
    monkeypatch.setattr(
        annotation_scan._Window, "read_more",
        lambda window, done: (read_more(window, done), sizes.append(len(window.text)))[0],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"rows.json\[0\]"):
        read_annotations(path)
    assert sizes == [600]


def test_an_empty_list(tmp_path: Path) -> None:
    found = read_annotations(write_rows(tmp_path / "rows.json", []))
    assert len(found) == 0 and found.images() == []


def test_numbers_of_large_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_scan, "LARGE_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_rows(tmp_path / "data" / "rows.json", [*ROWS, 17])
    first = read_annotations(path)
    kept = list((tmp_path / "data").glob(".rows.json.index-*.npz"))
    assert len(kept) == 1
    with monkeypatch.context() as without_scanning:
        without_scanning.setattr(annotation_scan, "_scan", None)
        second = read_annotations(path)
    assert second.images() == first.images() and second.problems == first.problems == {4: "must be an object, got int"}
    assert [second.read(row) for row in range(4)] == ROWS
    kept[0].write_bytes(kept[0].read_bytes()[:100])  # half a file
    assert read_annotations(path).images() == first.images()
    write_rows(path, ROWS[:2])
    os.utime(path, (1, 1))
    assert len(read_annotations(path)) == 2  # a changed file is read anew


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_scan, "LARGE_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_rows(tmp_path / "rows.json", ROWS)
    places = annotation_scan._index_places(path)
    places[0].mkdir()  # root may write everywhere, but not a file over a folder
    (places[0] / "x").touch()
    assert len(read_annotations(path)) == 4
    assert places[1].is_file()


def test_pickled_and_read_elsewhere(tmp_path: Path) -> None:
    found = read_annotations(write_rows(tmp_path / "rows.json", ROWS))
    found.read(0)
    copy = pickle.loads(pickle.dumps(found))
    assert copy.read(1) == ROWS[1] and copy.image(2) == "b.png"


def test_a_file_that_changes_later(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.json", ROWS)
    found = read_annotations(path)
    path.write_text("[17]")
    with pytest.raises(BadExample, match=r"rows.json\[2\]: the file was changed"):
        found.read(2)
    path.write_text("[" + " " * 5000 + "]")
    with pytest.raises(BadExample, match=r"rows.json\[0\]: the file was changed"):
        found.read(0)
