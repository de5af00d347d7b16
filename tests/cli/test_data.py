import json
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmref.cli import data as verb
from mmref.data.published_counts import PUBLISHED, Counts, Published

_file = Path(__file__).parents[1] / "data" / "readers" / "layouts.py"
_spec = spec_from_file_location("layouts", _file)
assert _spec is not None and _spec.loader is not None
layouts = module_from_spec(_spec)
_spec.loader.exec_module(layouts)

Run = Callable[..., Any]


def write(folder: Path, count: int = 4, **change: Any) -> Path:
    lines = []
    for index in range(count):
        name = f"{index}.png"
        Image.new("RGB", (4, 4), (index % 256, index // 256, 0)).save(folder / name)
        row = {"image": name, "captions": ["red"], "identity": index}
        row["split"] = "train" if index < count // 2 else "val"
        lines.append({**row, **(change if index == 0 else {})})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text)
    return folder


def test_tables(tmp_path: Path, run_mmref: Run) -> None:
    status, out, err = run_mmref("data", write(tmp_path))
    assert (status, err) == (0, "")
    assert "No problems found." in out and "pixels" in out
    train = next(line for line in out.splitlines() if line.startswith("train"))
    assert train.split()[2::2] == ["2", "2", "2", "2", "1", "1.0"]
    assert "captions in more than one split: 1" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_alone_on_stdout(tmp_path: Path, run_mmref: Run) -> None:
    folder = write(tmp_path)
    (folder / "0.png").unlink()
    status, out, err = run_mmref("data", folder, "--json")
    document = json.loads(out)
    assert (status, err) == (0, "")
    assert document["format"] == "manifest"
    assert document["splits"]["val"].items() >= {"objects": 2, "images": 2, "captions": 2}.items()
    assert document["closed_set"] is False and document["features_only"] is False
    assert document["problems"][0]["kind"] == "missing-image"
    assert document["problems"][0]["items"] == ["0.png"] and document["problems"][0]["count"] == 1


def test_problems_are_shown_and_leave_status_0(tmp_path: Path, run_mmref: Run) -> None:
    folder = write(tmp_path, 12)
    for index in range(7):
        (folder / f"{index}.png").write_bytes(b"[red]not an image[/red]")
    status, out, _ = run_mmref("data", folder)
    assert status == 0
    assert "Problems (1)" in out and "image files that cannot be decoded: 7" in out
    assert "    0.png: not an image\n" in out and "... and 2 more" in out


def test_markup_and_control_characters_in_names_are_shown_as_they_are(
    tmp_path: Path, run_mmref: Run
) -> None:
    folder = write(tmp_path, image="[bold]x\x1b[2J.png")
    status, out, _ = run_mmref("data", folder)
    assert status == 0 and "\x1b" not in out
    assert "missing image files: 1" in out
    assert r"'[bold]x\x1b[2J.png'" in out


def test_a_bar_for_many_images_on_stderr(
    tmp_path: Path, run_mmref: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_BAR_FROM", 4)
    status, out, err = run_mmref("data", write(tmp_path), "--json")
    assert status == 0 and json.loads(out)["readable"] == 4
    assert "images" in err and "4/4" in err


def test_features_only(tmp_path: Path, run_mmref: Run) -> None:
    lines = [
        {"image": n, "caption": n, "identity": n, "feature_row": i} for i, n in enumerate("ab")
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    np.save(tmp_path / "features.npy", np.eye(2, 7, dtype=np.float32))
    status, out, _ = run_mmref("data", tmp_path)
    assert status == 0
    assert "features of 7 dimensions" in out and "pixels" not in out
    assert "- no split column: 70/15/15 % of the objects drawn by seed 0" in out


def test_unusable_is_status_1_after_the_report(tmp_path: Path, run_mmref: Run) -> None:
    folder = write(tmp_path)
    for index in range(4):
        (folder / f"{index}.png").write_bytes(b"x")
    status, out, err = run_mmref("data", folder)
    assert status == 1 and "cannot be decoded: 4" in out
    assert err.startswith("mmref: not one image of ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": []}, "line 1: captions is empty"),
        ({"captions": [1]}, "line 1: captions must be strings"),
        ({"identity": None}, "line 1: identity must be"),
    ],
)
def test_bad_manifests_are_status_1(
    tmp_path: Path, run_mmref: Run, change: dict[str, Any], message: str
) -> None:
    status, out, err = run_mmref("data", write(tmp_path, **change))
    assert (status, out) == (1, "") and message in err and err.count("\n") == 1


def test_wrong_paths_and_formats_are_status_2(tmp_path: Path, run_mmref: Run) -> None:
    for source in (tmp_path / "none", f"manifest:{tmp_path / 'none'}", f"coco:{tmp_path}"):
        status, out, err = run_mmref("data", source)
        assert (status, out) == (2, "") and err.startswith("mmref: ") and err.count("\n") == 1
    status, _, err = run_mmref("data", tmp_path)
    assert status == 1 and "empty folder" in err


class TestPublishedSets:
    def test_which_copy_this_is(self, tmp_path: Path, run_mmref: Run) -> None:
        status, out, _ = run_mmref("data", layouts.write_rstpreid(tmp_path / "RSTPReid"))
        lines = out.splitlines()
        assert status == 0 and "RSTPReid (rstpreid): pixels" in lines[0]
        assert "queries: all captions; words: distinct words" in lines
        assert "Copy: differs from the published RSTPReid in 9 counts" in lines
        assert "- train objects 6, published 3,701 (3,695 fewer)" in lines
        assert max(map(len, lines[: lines.index("Notes:")])) <= 80

    def test_a_copy_that_matches(
        self, tmp_path: Path, run_mmref: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = layouts.write_icfg_pedes(tmp_path / "ICFG-PEDES")
        parts = {"train+val": Counts(8, 16, 16), "test": Counts(4, 8, 8)}
        small = Published("ICFG-PEDES", parts, "a test")
        monkeypatch.setitem(PUBLISHED, "icfg-pedes", small)
        status, out, _ = run_mmref("data", folder)
        assert status == 0 and "Copy: matches the published ICFG-PEDES in all counts" in out
        document = json.loads(run_mmref("data", folder, "--json").out)
        assert document["published"] == {"name": "ICFG-PEDES", "matches": True, "differences": []}
        assert document["protocol"] == "person"
        assert any("2 of 8 training objects" in note for note in document["notes"])

    def test_missing_image_folders_and_files(self, tmp_path: Path, run_mmref: Run) -> None:
        folder = layouts.write_cuhk_pedes(tmp_path / "CUHK-PEDES")
        (folder / "imgs" / "cam_a").rename(tmp_path / "away")
        document = json.loads(run_mmref("data", folder, "--json").out)
        (problem,) = (p for p in document["problems"] if p["kind"] == "missing-image")
        assert problem["count"] == 4 and problem["items"][0].startswith("cam_a/")
        assert any("missing" in n and "(cam_a), with 4 of" in n for n in document["notes"])

    def test_splits_of_a_file(self, tmp_path: Path, run_mmref: Run) -> None:
        folder = layouts.write_caption_all(tmp_path / "CUHK-PEDES")
        status, out, err = run_mmref("data", folder)
        assert (status, out) == (1, "") and "--splits FILE" in err and err.count("\n") == 1
        of_id = {item["id"]: item["split"] for item in layouts.cuhk_items()}
        file = layouts.write_json(tmp_path / "splits.json", of_id)
        status, out, _ = run_mmref("data", folder, "--splits", file)
        assert status == 0 and [line.split()[0] for line in out.splitlines()[3:6]] == [
            "train",
            "val",
            "test",
        ]
        assert run_mmref("data", f"{folder}?splits={file}").out == out
        for words in (("--splits", tmp_path / "no.json"), ("--splits", tmp_path)):
            status, _, err = run_mmref("data", folder, *words)
            assert status == 2 and "does not exist" in err
        status, _, err = run_mmref("data", f"{folder}?splits={file}", "--splits", file)
        assert status == 2 and "names a split file already" in err


def test_help_has_an_example(run_mmref: Run) -> None:
    status, out, _ = run_mmref("data", "--help")
    assert status == 0 and verb.EPILOG in out
    assert max(map(len, out.splitlines())) <= 80
