import json

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from mmref.cli import evaluate as verb
from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.errors import MMRefError, ModelError, PathError, SplitError
from mmref.model import MMRef, References, RefinementChoice

COLOURS = ("red", "green", "blue", "white", "black", "brown")
THINGS = ("cup", "hat", "box", "bag")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 objects with a vector and two captions each, in three splits."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    np.save(folder / "features.npy", generator.standard_normal((24, 6)).astype("f4"))
    lines = []
    for row in range(24):
        words = f"{COLOURS[row % 6]} {THINGS[row // 6]}"
        lines.append(
            {
                "image": f"{row}.png",
                "captions": [f"a {words}", f"this {words} stands here"],
                "identity": f"o{row}",
                "split": ("train", "val", "test")[row % 3],
                "feature_row": row,
            }
        )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """An untrained but whole run folder with references and a refinement."""
    part = RetrievalDataset.load(data).split("train")
    settings = Settings().with_values({"encoder.kind": "features", "encoder.block": 16})
    tokeniser = tokeniser_for([query.caption for query in part.queries()])
    torch.manual_seed(0)
    encoder = new_encoder(
        settings.encoder,
        tokeniser,
        tokeniser.ids([query.caption for query in part.queries()]),
        torch.from_numpy(part.features()),
    )
    vectors = torch.nn.functional.normalize(torch.randn(8, encoder.dimension), dim=1)
    references = References(vectors, tuple(part.object_names), vectors.mean(0), vectors.mean(0), {})
    choice = RefinementChoice("posterior", 1.0, 0.1, 4)
    folder = tmp_path_factory.mktemp("runs") / "run"
    MMRef(encoder, settings, references, choice).save_pretrained(folder)
    return folder


def call(*words):
    app = typer.Typer()
    app.command(epilog=verb.EPILOG)(verb.command)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_table_on_stdout_and_json_in_a_file(run, data, tmp_path):
    target = tmp_path / "report.json"
    result = call(run, "--data", data, "--i2t", "--controls", "--json", target)
    assert result.exception is None
    report = json.loads(target.read_text())
    assert (report["split"], report["queries"], report["gallery"]) == ("val", 16, 8)
    assert report["unrefined"] is not None
    assert report["refinement"]["form"] == "posterior"
    assert "text to image, refined" in result.stdout
    assert "uses all queries" in result.stdout
    assert "--split test" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_json_on_stdout_is_one_document(run, data):
    result = call(run, "--data", data, "--split", "test", "--no-refine", "--json", "-")
    report = json.loads(result.stdout)
    assert (report["split"], report["unrefined"], report["i2t"]) == ("test", None, None)
    assert "text to image" in result.stderr


@pytest.mark.parametrize("ties", ["pessimistic", "expected"])
def test_the_tie_rule_is_passed_on(run, data, ties):
    result = call(run, "--data", data, "--ties", ties, "--json", "-")
    assert json.loads(result.stdout)["ties"] == ties


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["RUN", "--data", "nowhere"], PathError),
        (["RUN", "--data", "DATA", "--split", "dev"], SplitError),
        (["nowhere", "--data", "DATA"], PathError),
        (["DATA", "--data", "DATA"], ModelError),
    ],
)
def test_what_is_wrong_is_an_error_of_ours(run, data, words, error):
    places = {"RUN": run, "DATA": data}
    result = call(*(places.get(word, word) for word in words))
    assert isinstance(result.exception, error)
    assert isinstance(result.exception, MMRefError)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_help_holds_an_example():
    result = call("--help")
    assert result.exit_code == 0
    assert "mmref evaluate" in result.stdout
