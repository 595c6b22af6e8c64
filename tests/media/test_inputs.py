from __future__ import annotations

from pathlib import Path

import pytest

from segmnv2.errors import MediaError
from segmnv2.media.inputs import describe_others, list_images, list_others


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.tiff", "sub/deep/d.webp", ".cache/e.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_gives_its_images_sorted_without_hidden_and_other_files(photos):
    assert names(list_images([photos]), photos) == ["a.PNG", "b.jpg"]


def test_recursive_includes_subfolders(photos):
    assert names(list_images([photos], recursive=True), photos) == ["a.PNG", "b.jpg", "sub/c.tiff", "sub/deep/d.webp"]


def test_a_file_given_by_name_is_used_with_any_ending(photos):
    given = [photos / "notes.txt", photos / ".hidden.jpg"]
    assert list_images(given) == given


def test_one_message_names_all_missing_files(photos):
    missing = [photos / f"missing{number}" for number in range(5)]
    with pytest.raises(MediaError, match=r"missing0, .*missing2 and 2 more: there is no such file or folder"):
        list_images([photos / "notes.txt", *missing])


def test_a_pattern_matches_as_in_a_shell(photos):
    assert names(list_images([f"{photos}/*.jpg"]), photos) == ["b.jpg"]
    assert names(list_images([f"{photos}/*"]), photos) == ["a.PNG", "b.jpg", "notes.txt", "sub/c.tiff"]
    assert names(list_images([f"{photos}/**/*.webp"]), photos) == ["sub/deep/d.webp"]


def test_a_file_named_like_a_pattern_is_used(photos):
    (photos / "cat[1].jpg").write_bytes(b"x")
    (photos / "cat1.jpg").write_bytes(b"x")
    assert names(list_images([photos / "cat[1].jpg"]), photos) == ["cat[1].jpg"]


def test_images_come_once_in_the_order_of_the_inputs(photos):
    given = list_images([photos / "sub", photos / "b.jpg", photos, f"{photos}/sub/../*.jpg"])
    assert names(given, photos) == ["sub/c.tiff", "b.jpg", "a.PNG"]


def test_excluded_folders_are_skipped(photos):
    found = list_images([photos], recursive=True, exclude=[photos / "sub/deep"])
    assert names(found, photos) == ["a.PNG", "b.jpg", "sub/c.tiff"]


def test_a_file_that_would_be_overwritten_is_rejected(photos):
    with pytest.raises(MediaError, match=r"c\.tiff: is where the results are written"):
        list_images([photos / "sub/c.tiff"], exclude=[photos / "sub"])


@pytest.mark.parametrize(
    ("item", "recursive", "message"),
    [
        ("photos/empty", False, r"empty: it holds no image \(\.avif.*--recursive"),
        ("photos/empty", True, r"empty: it and its subfolders hold no image"),
        ("photos/*.gif", False, r"\*\.gif: no file or folder matches"),
    ],
)
def test_an_input_without_images_is_an_error_that_names_it(photos, item, recursive, message, monkeypatch):
    (photos / "empty").mkdir()
    monkeypatch.chdir(photos.parent)
    with pytest.raises(MediaError, match=message):
        list_images([photos, item], recursive=recursive)


def test_no_inputs_are_an_error():
    with pytest.raises(MediaError, match="no images given"):
        list_images([])


def test_skipped_files_are_counted_and_named(photos):
    for name in ("a.HEIC", "b.heic", "clip.mp4", "README", "Thumbs.db", "sub/x.heic"):
        (photos / name).write_bytes(b"x")
    assert names(list_others([photos], exclude=[photos / "sub"]), photos) == [
        *("README", "a.HEIC", "b.heic", "clip.mp4", "notes.txt")
    ]
    found = describe_others(list_others([photos]))
    assert found.startswith("2 .heic, 1 without ending, 1 .mp4, 1 .txt (")
    assert found.endswith("a.HEIC, " + str(photos / "b.heic") + ", ...)")
    assert names(list_others([photos / "*.jpg", photos], recursive=True), photos)[-1] == "sub/x.heic"


@pytest.mark.parametrize("name", ["a.avif", "a.jfif", "a.JPE", "a.pgm", "a.jp2"])
def test_endings_of_every_readable_format_are_images(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert list_images([tmp_path]) == [tmp_path / name]


def test_the_message_for_a_folder_without_images_names_its_files(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(MediaError, match=r"holds no image.*but 1 \.heic"):
        list_images([tmp_path])


def test_links_are_images_by_their_own_names_even_if_broken(tmp_path):
    (tmp_path / "blob").write_bytes(b"x")
    folder = tmp_path / "images"
    folder.mkdir()
    for name, target in (("a.png", "blob"), ("b.png", "blob"), ("c.png", "gone")):
        (folder / name).symlink_to(tmp_path / target)
    assert names(list_images([folder, folder / "a.png"]), folder) == ["a.png", "b.png", "c.png"]


def test_linked_subfolders_are_searched_once(photos, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "f.jpg").write_bytes(b"x")
    for name, target in (("linked", tmp_path / "far"), ("again", tmp_path / "far"), ("loop", photos)):
        (photos / name).symlink_to(target)
    found = names(list_images([photos], recursive=True), photos)
    assert found == ["a.PNG", "b.jpg", "linked/f.jpg", "sub/c.tiff", "sub/deep/d.webp"]
