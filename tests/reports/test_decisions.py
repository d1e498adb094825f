"""Decisions that a page has saved, and files that are something else."""

import json

import numpy as np
import pytest

from skanomaly.reports import load_decisions

HEAD = {"format": "skanomaly decisions", "version": 1}


def written(tmp_path, content):
    path = tmp_path / "decisions"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_json(**document):
    return json.dumps({**HEAD, **document})


@pytest.mark.parametrize(
    "content",
    [
        'name,decision\na.png,good\n"b, ""c"".png",defect\nä.png,unsure\n',
        'decision,score,name\r\ngood,1,a.png\r\ndefect,2,"b, ""c"".png"\r\nunsure,3,ä.png\r\n',
        '\ufeffname;decision\na.png;good\n"b, ""c"".png";defect\nä.png;unsure\n',
        as_json(
            decisions=[
                {"name": "a.png", "decision": "good"},
                {"name": 'b, "c".png', "decision": "defect", "score": 1},
                {"name": "ä.png", "decision": "unsure"},
            ]
        ),
    ],
    ids=["csv", "other columns and order", "a spreadsheet's", "json"],
)
def test_both_kinds_are_read(content, tmp_path):
    found = load_decisions(written(tmp_path, content))
    assert found.names.tolist() == ["a.png", 'b, "c".png', "ä.png"]
    assert found.decisions.tolist() == ["good", "defect", "unsure"]
    assert found.names[found.decisions == "good"].tolist() == ["a.png"]


def test_names_may_hold_lines_and_bytes_that_are_no_text(tmp_path):
    found = load_decisions(
        written(tmp_path, b'name,decision\n"a\nb.png",good\n\xff\xe9.png,defect\n')
    )
    assert found.names.tolist() == ["a\nb.png", "\udcff\udce9.png"]
    saved = as_json(decisions=[{"name": "\udcff.png", "decision": "good"}])
    assert load_decisions(written(tmp_path, saved)).names.tolist() == ["\udcff.png"]


@pytest.mark.parametrize("content", ["name,decision\n", as_json(decisions=[])])
def test_none_are_none(content, tmp_path):
    found = load_decisions(written(tmp_path, content))
    assert found.names.shape == found.decisions.shape == (0,)
    assert not (found.decisions == "good").any()
    assert found.decisions.dtype == np.dtype(object)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has the columns none, expected name and decision"),
        ("file,verdict\na,good\n", "has the columns 'file', 'verdict', expected name"),
        ("name,decision\na,good\nb,bad\n", "line 3: the decision is 'bad', expected one of good"),
        ("name,decision\na,Good\n", "line 2: the decision is 'Good'"),
        (
            "name,decision\na,good\nb,good\na,defect\n",
            "line 4: 'a' has a decision already, in line 2",
        ),
        ("name,decision\na\n", "line 2: has another number of cells"),
        ("name,decision\na,good,more\n", "line 2: has another number of cells"),
        ('name,decision\n"a,good\n', "is damaged or cut short"),
        ("{", "damaged or cut short"),
        ("[]", "holds no decisions"),
        (json.dumps({"decisions": []}), "holds no decisions"),
        (json.dumps({**HEAD, "version": 2, "decisions": []}), "of version 2, this one reads 1"),
        (as_json(), "has no list of decisions"),
        (as_json(decisions=["a"]), "entry 0: has no name"),
        (as_json(decisions=[{"decision": "good"}]), "entry 0: has no name"),
        (as_json(decisions=[{"name": "a"}]), "entry 0: the decision is None"),
    ],
)
def test_other_files_are_refused_by_name(content, message, tmp_path):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        load_decisions(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_decisions(tmp_path / "missing.csv")
