from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmnv2.errors import ConfigError
from segmnv2.inference.files import ResultFolder, infer_files, new_results_folder, output_names
from segmnv2.inference.predictor import Predictor


@pytest.fixture
def predictor(small_model) -> Predictor:
    return Predictor(small_model, size=33)


@pytest.fixture
def photos(tmp_path: Path, photo) -> list[Path]:
    paths = [tmp_path / "in" / name for name in ("a.png", "b.png")]
    paths[0].parent.mkdir()
    for seed, path in enumerate(paths):
        Image.fromarray(photo(20, 30, seed)).save(path)
    return paths


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_writes_masks_and_overlays_and_confidence_on_request(predictor, photos, tmp_path):
    report = infer_files(predictor, photos, ResultFolder(tmp_path / "out").write)
    assert written(tmp_path / "out") == ["masks/a.png", "masks/b.png", "overlays/a.jpg", "overlays/b.jpg"]
    assert list(report.written) == photos
    infer_files(predictor, photos[:1], ResultFolder(tmp_path / "more", overlay=False, confidence=True).write)
    assert written(tmp_path / "more") == ["confidence/a.png", "masks/a.png"]


def test_files_hold_the_prediction(predictor, photos, tmp_path):
    report = infer_files(predictor, photos[:1], ResultFolder(tmp_path / "out", confidence=True).write)
    mask, _, confidence = (Image.open(path) for path in report.written[photos[0]])
    prediction = predictor(photos[0])
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), prediction.mask)
    assert confidence.mode == "L"
    assert np.abs(np.asarray(confidence) / 255 - prediction.confidence).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("batch", [1, 3])
def test_files_equal_those_of_one_image_after_another(batch, predictor, photo, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for seed, path in enumerate(paths):
        Image.fromarray(photo(20 + 9 * (seed % 3), 30, seed)).save(path)
    single, many = (ResultFolder(tmp_path / name, confidence=True) for name in ("single", "many"))
    expected = {path: single.write(predictor(path), path.stem) for path in paths}
    report = infer_files(predictor, paths, many.write, batch=batch)
    assert list(report.written) == paths
    for path in paths:
        for one, other in zip(expected[path], report.written[path], strict=True):
            assert one.relative_to(single.path) == other.relative_to(many.path)
            assert one.read_bytes() == other.read_bytes()


def test_an_image_given_twice_is_written_twice(predictor, photos, tmp_path):
    infer_files(predictor, [photos[0], photos[0]], ResultFolder(tmp_path / "out", overlay=False).write)
    assert len(written(tmp_path / "out")) == 2


def test_an_interrupt_leaves_only_whole_files(predictor, photos, tmp_path):
    def interrupt(path, failure):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        infer_files(predictor, photos * 5, ResultFolder(tmp_path / "out").write, interrupt)
    left = written(tmp_path / "out")
    assert left
    for name in left:
        assert not Path(name).name.startswith(".")
        Image.open(tmp_path / "out" / name).load()


def test_a_damaged_file_is_reported_and_the_others_are_predicted(predictor, photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_text("not an image")
    done: list[tuple[Path, str | None]] = []
    report = infer_files(
        predictor,
        [broken, *photos],
        ResultFolder(tmp_path / "out").write,
        lambda path, failure: done.append((path, failure)),
    )
    assert list(report.failed) == [broken]
    assert "broken.jpg" in report.failed[broken]
    assert done == [(broken, report.failed[broken]), (photos[0], None), (photos[1], None)]
    assert "masks/broken.png" not in written(tmp_path / "out")


def test_inputs_of_the_same_name_do_not_overwrite_each_other(predictor, photos, tmp_path):
    twin = tmp_path / "other" / "a.png"
    twin.parent.mkdir()
    Image.open(photos[1]).save(twin)
    infer_files(predictor, [*photos, twin], ResultFolder(tmp_path / "out", overlay=False).write)
    assert written(tmp_path / "out") == ["masks/b.png", "masks/in_a_png.png", "masks/other_a_png.png"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["x/a.jpg", "x/b.jpg"], ["a", "b"]),
        (["x/a.jpg", "x/a.png", "x/b.png"], ["a_jpg", "a_png", "b"]),
        (["x/a.jpg", "y/a.jpg"], ["x_a_jpg", "y_a_jpg"]),
        (["x/1/a.jpg", "y/1/a.jpg"], ["x_1_a_jpg", "y_1_a_jpg"]),
        (["x/a.jpg", "y/a.jpg", "y/a.png"], ["x_a_jpg", "y_a_jpg", "a_png"]),
        (["x/Cat.jpg", "x/cat.png"], ["Cat_jpg", "cat_png"]),
        (["x/a", "y/a"], ["x_a", "y_a"]),
        (["x/a.tar.jpg"], ["a.tar"]),
    ],
)
def test_names_are_the_shortest_unique_ones(paths, expected):
    assert output_names([Path("/data") / path for path in paths]) == expected


def test_numbers_make_equal_names_unique():
    paths = [
        Path(path) for path in ("/p/q_a.jpg", "/p/q/a.jpg", "/p_q/a.jpg", "/p/q/a_jpg", "/r/q_a.jpg", "/a_jpg.jpg")
    ]
    names = output_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)


def test_an_unwritable_folder_is_one_clear_error(predictor, photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"file: results cannot be written \(Not a directory\)"):
        infer_files(predictor, photos, ResultFolder(tmp_path / "file").write)


def test_a_full_disk_is_one_clear_error_and_leaves_only_whole_files(predictor, photos, tmp_path, monkeypatch):
    def write_bytes(path, content):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(ConfigError, match="No space left on device"):
        infer_files(predictor, photos, ResultFolder(tmp_path / "out").write)
    assert written(tmp_path / "out") == []


def test_opacity_is_checked_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match="opacity"):
        ResultFolder(tmp_path, opacity=60)


def test_an_output_folder_removed_during_the_run_is_an_error(predictor, photos, tmp_path):
    out = ResultFolder(tmp_path / "out", overlay=False)

    def remove(path, failure):
        if path == photos[0]:
            out.path.rename(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match=r"was written but does not exist|results cannot be written"):
        infer_files(predictor, photos, out.write, remove)


def test_programs_at_the_same_time_get_different_new_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("results-2").write_text("a file")
    Path("results-3").symlink_to("missing")
    with new_results_folder() as first, new_results_folder() as second:
        assert [str(first), str(second)] == ["results", "results-4"]
        (second / "masks").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results-2", "results-3", "results-4"]
    assert [path.name for path in second.iterdir()] == ["masks"]


def test_a_new_folder_where_nothing_can_be_written_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ConfigError, match="results: results cannot be written"), new_results_folder():
        pass
