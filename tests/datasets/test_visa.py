import numpy as np
import pytest
from image_folders import MASK, kinds, lay_out, write

from skanomaly.datasets import load_image_folder, load_visa
from skanomaly.exceptions import InvalidImageError

HEADER = "object,split,label,image,mask"
NORMAL, ANOMALY = "candle/Data/Images/Normal", "candle/Data/Images/Anomaly"
ROWS = [
    f"candle,train,normal,{NORMAL}/0.JPG,",
    f"candle,test,normal,{NORMAL}/1.JPG,",
    f"candle,test,anomaly,{ANOMALY}/0.JPG,candle/Data/Masks/Anomaly/0.png",
    "pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,",
]


def write_rows(root, rows, header=HEADER):
    (root / "split_csv").mkdir(exist_ok=True)
    (root / "split_csv/1cls.csv").write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def root(tmp_path):
    lay_out(tmp_path, [f"{NORMAL}/0.JPG", f"{NORMAL}/1.JPG", f"{NORMAL}/2.JPG", f"{ANOMALY}/0.JPG"])
    write(
        tmp_path / "candle/Data/Masks/Anomaly/0.png",
        MASK * np.uint8(1) + np.eye(8, 10, dtype=np.uint8) * 2,
    )
    write_rows(tmp_path, ROWS)
    return tmp_path


def test_as_distributed(root):
    train = load_visa(root, "candle")
    assert kinds(train) == {f"{NORMAL}/0.JPG": "good"}
    assert train.left_out == {f"{NORMAL}/2.JPG": "not in 1cls.csv"}
    test = load_visa(root, "candle", split="test")
    assert kinds(test) == {f"{ANOMALY}/0.JPG": "anomaly", f"{NORMAL}/1.JPG": "good"}
    np.testing.assert_array_equal(test.masks[0], MASK | np.eye(8, 10, dtype=bool))
    assert 'VisA, category "candle", test split: 2 images' in test.DESCR
    assert "CC BY 4.0" in test.DESCR


def test_as_converted(tmp_path):
    lay_out(
        tmp_path,
        ["candle/train/good/0.JPG", "candle/test/good/1.JPG", "candle/test/bad/0.JPG"],
        ["candle/ground_truth/bad/0.png"],
    )
    assert kinds(load_visa(tmp_path, "candle")) == {"train/good/0.JPG": "good"}
    assert list(kinds(load_visa(tmp_path, "candle", split="test")).values()) == ["bad", "good"]


def test_other_split_file(root):
    rows = [*ROWS, f"candle,train,anomaly,{ANOMALY}/9.JPG,candle/Data/Masks/Anomaly/9.png"]
    write_rows(root, rows)
    (root / "split_csv/1cls.csv").rename(root / "mine.csv")
    train = load_visa(root, "candle", split_file="mine.csv")
    assert len(train.images) == 1
    assert "not good" in train.left_out[f"{ANOMALY}/9.JPG"]


def test_image_folder_names_the_loader(root):
    with pytest.raises(InvalidImageError, match=r"load_visa\('.*', 'candle'\)"):
        load_image_folder(root / "candle")
    bunch = load_image_folder(root / "candle/Data", split=None, mask_threshold=0)
    assert sorted(kinds(bunch).values()) == ["Anomaly", "good", "good", "good"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (ROWS[3:], "no category 'candle'; found pcb1"),
        (ROWS[:1], "no image of the test split"),
        ([*ROWS, ROWS[2]], "Anomaly/0.JPG twice"),
        ([*ROWS, f"candle,test,normal,{NORMAL}/7.JPG,"], "Normal/7.JPG', which is not there"),
        ([f"candle,test,anomaly,{ANOMALY}/0.JPG,"], "names '', which is not there"),
        ([f"candle,test,fine,{NORMAL}/0.JPG,"], "line 2: label is 'fine'"),
        ([f"candle,val,normal,{NORMAL}/0.JPG,"], "line 2: split is 'val'"),
    ],
)
def test_split_file_that_does_not_fit(root, rows, reason):
    write_rows(root, rows)
    with pytest.raises(InvalidImageError, match=reason) as caught:
        load_visa(root, "candle", split="test")
    assert caught.value.path == str(root / "split_csv/1cls.csv")


def test_table_of_something_else(root):
    write_rows(root, ROWS, header="a,b,c,d,e")
    with pytest.raises(InvalidImageError, match="has the columns"):
        load_visa(root, "candle")


def test_no_split_file(tmp_path):
    with pytest.raises(InvalidImageError, match="or pass split_file"):
        load_visa(tmp_path, "candle")


def test_unknown_split(root):
    with pytest.raises(ValueError, match='must be "train" or "test"'):
        load_visa(root, "candle", split="validation")
