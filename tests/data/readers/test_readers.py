from pathlib import Path

import pytest

from mmref.data.readers import READERS, resolve_source
from mmref.errors import DataError, PathError


def test_the_registry_is_keyed_by_name() -> None:
    assert "manifest" in READERS
    assert all(reader.name == name for name, reader in READERS.items())


def test_an_empty_folder_says_how_to_write_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is an empty folder: write manifest\.jsonl there"):
        resolve_source(tmp_path)


def test_a_folder_of_images_says_how_to_write_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "photo.JPG").touch()
    with pytest.raises(DataError, match=r'holds images but no manifest: write .*"identity"'):
        resolve_source(tmp_path)


def test_another_folder_and_another_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="of no known format"):
        resolve_source(tmp_path)
    with pytest.raises(PathError, match="not a manifest"):
        resolve_source(tmp_path / "notes.txt")


def test_a_forced_format_is_not_second_guessed(tmp_path: Path) -> None:
    reader, path, splits = resolve_source(f"manifest:{tmp_path}")
    assert (reader.name, path, splits) == ("manifest", tmp_path, None)
    with pytest.raises(DataError, match=r"holds no manifest\.jsonl"):
        reader.read(path, 0)


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "manifest.csv").touch()
    assert resolve_source("manifest:~").path == tmp_path
