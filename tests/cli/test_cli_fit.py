"""``skanomaly fit``, ``detectors``, and pipelines in YAML."""

import json
import re
import shutil

import joblib
import pytest
from conftest import QUICK_FIT

import skanomaly
from skanomaly import EnsembleDetector, LocalContrast, TiledDetector, TransformedImageDetector
from skanomaly.cli import main
from skanomaly.utils import all_detectors


@pytest.fixture
def no_fit(monkeypatch):
    """Detectors that are fitted at once, and what they were fitted on."""
    seen = []

    def fit(self, X):
        seen.append(X)
        self.offset_, self.validation_scores_ = -1.0, [-0.5] * 20
        return self

    monkeypatch.setattr("skanomaly._image_detector.ImageDetector.fit", fit)
    monkeypatch.setattr("skanomaly.cli._fit.write_model", lambda d, file, _: seen.append(d))
    return seen


def fitted(good_parts, tmp_path, *arguments):
    assert main(["fit", str(good_parts), "-o", str(tmp_path / "m"), *arguments]) == 0


def test_fit_writes_a_detector(model):
    detector = skanomaly.load(model)
    assert isinstance(detector, LocalContrast)
    assert (detector.image_size, detector.random_state) == (64, 0)
    assert len(list(model.parent.iterdir())) == 1


def test_the_same_command_gives_the_same_model(good_parts, model, tmp_path):
    fitted(good_parts, tmp_path, *QUICK_FIT)
    assert (tmp_path / "m").read_bytes() == model.read_bytes()
    fitted(good_parts, tmp_path, *QUICK_FIT, "--seed", "1")
    assert (tmp_path / "m").read_bytes() != model.read_bytes()


def test_without_a_name_it_takes_what_to_start_with_and_says_so(
    good_parts, tmp_path, no_fit, capsys
):
    fitted(good_parts, tmp_path)
    expected = skanomaly.make_ensemble(random_state=0, n_jobs=no_fit[1].n_jobs)
    assert repr(no_fit[1]) == repr(expected)
    assert re.search("no --detector given: make_ensemble.*accuracy.md", capsys.readouterr().out)


def test_fit_reads_the_training_split_of_a_laid_out_folder(parts, tmp_path, no_fit):
    fitted(parts, tmp_path)
    assert {path.split("/")[-2] for path in no_fit[0].paths} == {"good"}
    assert len(no_fit[0]) == 24


def test_settings_reach_parts_and_are_yaml(good_parts, tmp_path, no_fit):
    values = ["memory__coreset=0.05", "memory__layers=[1, 2]", "combination=sum", "cv=null"]
    settings = [word for value in values for word in ("--set", value)]
    fitted(good_parts, tmp_path, *settings, "--false-alarm-rate", "0.1", "--device", "cpu")
    found = no_fit[1].get_params()
    assert found["memory__coreset"] == 0.05
    assert found["memory__layers"] == (1, 2)
    assert (found["combination"], found["cv"]) == ("sum", None)
    assert (found["false_alarm_rate"], found["device"]) == (0.1, "cpu")
    fitted(good_parts, tmp_path, "--detector", "FastFlow", "--set", "lr=1e-4")
    assert no_fit[3].lr == 1e-4


PIPELINE = """
steps:
  - class: Crop
    box: [4, 4, 60, 60]
  - ToRGB
detector:
  class: TiledDetector
  tile_size: 32
  detector:
    class: EnsembleDetector
    image_size: 64
    false_alarm_rate: 0.2
    random_state: 7
    detectors:
      spots: {class: LocalContrast, scales: [2.0, 4.0]}
      other: LocalContrast
"""


def test_a_pipeline_of_yaml(good_parts, new_parts, tmp_path):
    (tmp_path / "p.yaml").write_text(PIPELINE)
    fitted(
        good_parts, tmp_path, "--config", str(tmp_path / "p.yaml"), "--set", "detector__overlap=0.5"
    )
    detector = skanomaly.load(tmp_path / "m")
    assert isinstance(detector, TransformedImageDetector)
    assert [name for name, _ in detector.transformer.steps] == ["crop", "torgb"]
    assert detector.transformer.steps[0][1].box == (4, 4, 60, 60)
    tiled = detector.detector
    assert isinstance(tiled, TiledDetector)
    assert (tiled.tile_size, tiled.overlap) == (32, 0.5)
    ensemble = tiled.detector
    assert isinstance(ensemble, EnsembleDetector)
    assert (ensemble.false_alarm_rate, ensemble.random_state) == (0.2, 7)
    assert dict(ensemble.detectors)["spots"].scales == (2.0, 4.0)
    command = ["score", str(tmp_path / "m"), str(new_parts), "--out", str(tmp_path / "s")]
    assert main(command) in (0, 1)
    (tmp_path / "e.yaml").write_text("class: make_ensemble\nimage_size: 64\n")
    options = ["--config", str(tmp_path / "e.yaml"), "--set", "memory__max_candidates=0"]
    assert main(["fit", str(good_parts), "-o", str(tmp_path / "n"), *options]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class: [", "is no YAML: line 1, column 9"),
        ("", "expected the name of a class, or a mapping"),
        ("class: PaDim", "no class PaDim of skanomaly; did you mean PaDiM?"),
        ("class: os.system", "no class os.system of skanomaly"),
        ("!!python/object/apply:os.system ['true']", "is no YAML.*could not determine a con"),
        ("class: IsolationForest", "no class IsolationForest"),
        (
            "{class: PaDiM, n_feature: 3}",
            "PaDiM has no parameter n_feature; did you mean n_features",
        ),
        ("{class: PaDiM, image_size: -3}", "PaDiM: The 'image_size' parameter of PaDiM"),
        ("{class: PaDiM, image_size: 3, image_size: 4}", "line 1.*'image_size' stands twice"),
        ("{steps: [{class: Crop, box: [0, 0]}], detector: PaDiM}", r"transformer\[0\]: The 'box'"),
        ("{steps: [{class: Crop}], detector: PaDiM}", r"transformer\[0\]: Crop: .*box"),
        ("{steps: [], detector: PaDiM}", "transformer: there is no step"),
        ("{class: TiledDetector, detector: 3}", "detector: expected the name of a class"),
        ("class: Crop\nbox: [0, 0, 9, 9]", "describes a Crop, expected a detector of images"),
        (
            "{class: EnsembleDetector, detectors: {a: {class: PatchCore, corset: 3}}}",
            "detectors.a: PatchCore has no parameter corset; did you mean coreset",
        ),
    ],
)
def test_mistakes_in_yaml_are_explained(content, message, good_parts, tmp_path, capsys):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    assert main(["fit", str(good_parts), "-o", str(tmp_path / "m"), "--config", str(path)]) == 2
    (line,) = re.findall("^skanomaly: error: .*", capsys.readouterr().err, flags=re.MULTILINE)
    assert re.search(f"p.yaml.*{message}", line)
    assert [p.name for p in tmp_path.iterdir()] == ["p.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none"], "not a folder"),
        (["{tmp}"], "holds no image"),
        (["{good}", "--detector", "PatchCor"], "no detector PatchCor; did you mean PatchCore?"),
        (["{good}", "--config", "{tmp}/none"], "none: No such file"),
        (["{good}", "--config", "x", "--detector", "PaDiM"], "give one of them"),
        (["{good}", "--set", "image_size"], "expected name=value"),
        (["{good}", "--set", "imagesize=3"], "no parameter imagesize; did you mean image_size"),
        (["{good}", "--set", "image_size=[1"], "--set image_size=.1 is no YAML"),
        (["{good}", "--set", "image_size=-3"], "--set image_size=-3: .*image_size.* -3"),
        (["{good}", "--set", "memory__coreset=-3"], "--set memory__coreset=-3: .*coreset.* -3"),
        (["{good}", "--set", "memory__backbone=resnet19"], "no network 'resnet19'"),
        (["{good}", "--set", "memory__weights={tmp}/w"], "there is no weight file"),
        (["{good}", "--false-alarm-rate", "nan"], "--false-alarm-rate nan: .*false_alarm_rate"),
        (["{good}", "--false-alarm-rate", "1"], "false_alarm_rate.* 1"),
        (["{good}", "--seed", "-1"], "--seed -1: expected 0"),
        (["{good}", "--device", "gpu"], "--device gpu cannot be used"),
        (["{good}", "--device", "cuda:99"], "--device cuda:99 cannot"),
        (["{good}", "--device", "meta"], "--device meta cannot be used"),
    ],
)
def test_mistakes_are_explained(arguments, message, good_parts, tmp_path, capsys):
    names = {"tmp": tmp_path, "good": good_parts}
    arguments = [argument.format(**names) for argument in arguments]
    assert main(["fit", *arguments, "-o", str(tmp_path / "m")]) == 2
    (line,) = re.findall("^skanomaly: error: .*", capsys.readouterr().err, flags=re.MULTILINE)
    assert re.search(message, line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("out", "message"), [("none/m", "no such folder"), ("", "is a folder")])
def test_a_wrong_place_costs_no_fit(out, message, good_parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(LocalContrast, "fit", lambda *_: pytest.fail("was fitted"))
    assert main(["fit", str(good_parts), "-o", f"{tmp_path}/{out}".rstrip("/"), *QUICK_FIT]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["m.joblib", "m.pkl", "m"])
def test_fit_writes_no_pickle_unless_asked(name, good_parts, tmp_path):
    path = tmp_path / name
    command = ["fit", str(good_parts), "-o", str(path), *QUICK_FIT]
    assert main([*command, "--seed", "3"]) == 0
    assert skanomaly.load(path).random_state == 3
    assert main([*command, "--seed", "4", "--pickle"]) == 0
    assert joblib.load(path).random_state == 4


def test_fit_as_json(good_parts, tmp_path, capsys):
    fitted(good_parts, tmp_path, *QUICK_FIT, "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["detector"], found["n_images"], found["why"]) == ("LocalContrast", 24, None)
    low, high = found["false_alarm_interval"]
    assert low < found["false_alarm_rate"] < high


def test_what_a_training_prints_is_no_part_of_json(
    good_parts, tmp_path, no_fit, monkeypatch, capsys
):
    monkeypatch.setattr(
        "skanomaly._image_detector.ImageDetector.fit",
        lambda self, X: (
            print("epoch 1")
            or setattr(self, "offset_", -1.0)
            or setattr(self, "validation_scores_", [0.0] * 9)
        ),
    )
    fitted(good_parts, tmp_path, "--json")
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n_validation"] == 9
    assert "epoch 1" in shown.err


def test_detectors_are_listed_with_their_sources(capsys):
    assert main(["detectors"]) == 0
    shown = capsys.readouterr().out
    for name, _ in all_detectors():
        assert re.search(rf"^{name} ", shown, flags=re.MULTILINE)
    assert main(["detectors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_name = {one["name"]: one for one in found["detectors"]}
    assert by_name["PaDiM"]["reference"] == "https://arxiv.org/abs/2011.08785"
    assert by_name["LocalContrast"]["reference"] is None


def test_a_detector_is_described(capsys):
    assert main(["detectors", "PatchCore"]) == 0
    assert "coreset : " in capsys.readouterr().out
    assert main(["detectors", "PatchCor"]) == 2
    assert "did you mean PatchCore" in capsys.readouterr().err


def test_names_of_folders_can_be_overruled(good_parts, tmp_path, capsys):
    folder = shutil.copytree(good_parts, tmp_path / "bad")
    command = ["fit", str(folder), "-o", str(tmp_path / "m"), *QUICK_FIT]
    assert main(command) == 2
    shown = capsys.readouterr().err
    assert "the folder's own name says that its images are not good" in shown
    assert "--all-good" in shown
    assert "good_folders" not in shown
    assert main([*command, "--all-good"]) == 0
    assert skanomaly.load(tmp_path / "m").predict([str(folder / "00.png")]).shape == (1,)


def test_where_a_model_goes_is_looked_at_first(good_parts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("skanomaly.cli._fit.good_images", lambda *_: pytest.fail("too late"))
    for out, message in ((tmp_path / "no" / "m", "no such folder"), (tmp_path, "is a folder")):
        assert main(["fit", str(good_parts), "-o", str(out), *QUICK_FIT]) == 2
        assert message in capsys.readouterr().err


def test_what_a_threshold_promises_is_told_of_detectors_around_others(good_parts, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(
        "class: TiledDetector\ntile_size: 48\ndetector: {class: LocalContrast}\n"
    )
    command = ["fit", str(good_parts), "-o", str(tmp_path / "m"), "--config"]
    assert main([*command, str(tmp_path / "p.yaml")]) == 0
    assert "asked for 5.0% false alarms" in capsys.readouterr().out
