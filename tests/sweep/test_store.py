"""The store: nothing lost, nothing twice, nothing foreign."""

import json

import pytest

import simdeep
from simdeep.errors import InputError
from simdeep.sweep.evaluate import Status, make_row
from simdeep.sweep.store import Store, merge


def row(i, **figures):
    return make_row(f"k{i}", {"a": str(i)}, Status.FITS, "", {"step_time_s": 1.0 + i, **figures})


def test_rows_read_back(tmp_path):
    path = tmp_path / "deep" / "store.jsonl"
    with Store(path) as store:
        store.append([row(1), row(2)])
        store.append([row(2), row(3)])
    with Store(path) as store:
        assert list(store.rows.values()) == [row(1), row(2), row(3)]
    assert len(path.read_text().splitlines()) == 4


def test_two_at_once_see_each_other_and_write_nothing_twice(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path) as one, Store(path) as two:
        one.append([row(1)])
        two.append([row(1), row(2)])
        one.append([row(2), row(3)])
        assert list(one.rows) == ["k1", "k2", "k3"]
        assert list(two.rows) == ["k1", "k2"]
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_an_unfinished_last_line_is_cut_off(tmp_path, cut):
    path, whole = tmp_path / "store.jsonl", tmp_path / "whole.jsonl"
    for each in (path, whole):
        with Store(each) as store:
            store.append([row(1), row(2)])
    path.write_bytes(path.read_bytes()[:-cut])
    with Store(path) as store:
        assert list(store.rows) == ["k1"]
        store.append([row(2)])
    assert path.read_bytes() == whole.read_bytes()


def test_a_line_left_unfinished_by_another_process_is_cut_off_on_the_way(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path) as store:
        store.append([row(1)])
        with path.open("a") as other:
            other.write('{"key":"k2","fig')
        store.append([row(3)])
    with Store(path) as store:
        assert list(store.rows) == ["k1", "k3"]


def test_a_header_left_unfinished_is_written_anew(tmp_path):
    path, whole = tmp_path / "store.jsonl", tmp_path / "whole.jsonl"
    with Store(whole):
        pass
    path.write_bytes(whole.read_bytes()[:9])
    with Store(path):
        pass
    assert path.read_bytes() == whole.read_bytes()


def refused(path):
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError) as error, Store(path):
        pass
    (problem,) = error.value.problems
    assert str(path) in problem.place
    assert (path.read_bytes() if path.is_file() else None) == before
    return problem.message


@pytest.mark.parametrize("change", [{"version": "0.0.1"}, {"code": "0"}, {"simdeep_sweep": 99}])
def test_a_store_of_another_version(tmp_path, change):
    path = tmp_path / "store.jsonl"
    with Store(path) as store:
        store.append([row(1)])
    header, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(header) | change), *rest]) + "\n")
    message = refused(path)
    assert "of another version" in message
    assert simdeep.__version__ in message


@pytest.mark.parametrize("text", ["kind: train\n", "{}\n", "[1]\n", "hello", '{"key": "a"}\n'])
def test_a_file_that_is_no_store_is_left_alone(tmp_path, text):
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    assert "no store" in refused(path)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path) as store:
        store.append([row(1), row(2)])
    text = path.read_text().splitlines()
    text[1] = text[1][:20]
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(InputError, match=r"store\.jsonl:2: is no row"), Store(path):
        pass


def test_a_place_that_cannot_be_written(tmp_path):
    assert "cannot open" in refused(tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot open" in refused(tmp_path / "file" / "store.jsonl")
    with pytest.raises(InputError, match=r"NUL|null"), Store(tmp_path / "a\0b"):
        pass


def test_a_store_that_was_removed(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path) as store:
        path.unlink()
        with pytest.raises(InputError, match="was removed"):
            store.append([row(1)])


def test_merge(tmp_path):
    parts = []
    for i in range(3):
        parts.append(tmp_path / f"{i}.jsonl")
        with Store(parts[-1]) as store:
            store.append([row(i), row(i + 1)])
    with Store(tmp_path / "all.jsonl") as whole:
        assert merge(whole, parts) == 4
        assert merge(whole, parts) == 0
        assert list(whole.rows) == ["k0", "k1", "k2", "k3"]


def test_merge_refuses_two_answers_to_one_question(tmp_path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for path, figure in ((one, 1), (two, 2)):
        with Store(path) as store:
            store.append([row(1, gpus=figure)])
    with Store(one) as whole, pytest.raises(InputError, match="another answer"):
        merge(whole, [two])
    with Store(one) as whole, pytest.raises(InputError, match="no such file"):
        merge(whole, [tmp_path / "three.jsonl"])
