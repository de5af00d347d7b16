import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.encoders.clip.checkpoint import read_config
from mmref.encoders.clip.tokens import WINDOW, CheckpointTokeniser
from mmref.encoders.clip.towers import full_config
from mmref.errors import ModelError

from .made import CAPTIONS


def read(folder):
    family, config = read_config(folder)
    return CheckpointTokeniser.read(folder, family, full_config(config))


@pytest.fixture(scope="module")
def clip(folders):
    return read(folders["clip"])


@pytest.fixture(scope="module")
def siglip(folders):
    return read(folders["siglip"])


class TestClip:
    def test_ids_are_those_of_transformers(self, folders, clip):
        from transformers import AutoTokenizer

        own = AutoTokenizer.from_pretrained(folders["clip"], local_files_only=True)
        captions = [*CAPTIONS, "  Two\n SPACES\t and é ", "red hat " * 60]
        wanted = own(captions, truncation=True, max_length=77)["input_ids"]
        assert clip.ids(captions, "cut") == wanted

    def test_special_tokens_in_a_caption_are_text(self, clip):
        (ids,) = clip.ids(["a <|endoftext|> hat"], "cut")
        assert ids.count(clip.rules.last[0]) == 1
        assert ids[-1] == clip.rules.last[0]

    def test_vocabulary_and_merges_will_do(self, folders, clip, tmp_path):
        import json

        old = shutil.copytree(folders["clip"], tmp_path / "old")
        model = json.loads((old / "tokenizer.json").read_text())["model"]
        (old / "tokenizer.json").unlink()
        vocab = dict(model["vocab"])
        for word in ("<|startoftext|>", "<|endoftext|>"):
            vocab.setdefault(word, clip.rules.first[0] + (word != "<|startoftext|>"))
        (old / "vocab.json").write_text(json.dumps(vocab))
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        assert read(old).ids(CAPTIONS, "cut") == clip.ids(CAPTIONS, "cut")
        (old / "merges.txt").write_text("a b c d\nno such pieces\n")
        with pytest.raises(ModelError, match=r"vocab.json or merges.txt is damaged"):
            read(old)

    def test_a_batch_is_trimmed_and_padded_behind(self, clip):
        batch = clip.batch(clip.ids(["red", "red hat"], "cut"))
        assert batch.owners is None
        assert batch.ids[0].tolist()[-1] == clip.rules.padding
        assert batch.ids.shape[1] == len(clip.ids(["red hat"], "cut")[0])
        assert batch.to("meta").ids.device.type == "meta"
        assert clip.batch([]).ids.shape == (0, 1)

    def test_cut_keeps_the_end_token(self, clip):
        (ids,) = clip.ids(["red hat " * 99], "cut")
        assert len(ids) == 77
        assert (ids[0], ids[-1]) == (clip.rules.first[0], clip.rules.last[0])

    @given(st.lists(st.text("ab. ;", max_size=200), min_size=1, max_size=4))
    @settings(max_examples=40, deadline=None)
    def test_split_loses_no_token(self, clip, captions):
        rows = clip.ids(captions, "split")
        batch = clip.batch(rows)
        assert batch.captions == len(captions)
        assert int((batch.ids == WINDOW).sum()) == 0
        for caption, row in zip(captions, rows, strict=True):
            windows = [[]]
            for token in row:
                if token == WINDOW:
                    windows.append([])
                else:
                    windows[-1].append(token)
            assert all(len(window) <= 77 for window in windows)
            inner = [t for window in windows for t in window[1:-1]]
            assert inner == clip._plain([caption])[0]


class TestSiglip:
    def test_captions_are_lower_case_without_punctuation(self, siglip):
        assert siglip.rules.prepare == "bare"
        assert siglip.ids(["A  Red-hat!"], "cut") == siglip.ids(["a redhat"], "cut")

    def test_of_siglip_2_they_keep_it(self, folders):
        second = read(folders["siglip2"])
        assert second.rules.prepare == "lower"
        assert second.ids(["A Red."], "cut") == second.ids(["a red."], "cut")
        assert second.ids(["a red."], "cut") != second.ids(["a red"], "cut")
        assert second.rules.padding == 0

    def test_rows_are_always_of_full_length(self, siglip):
        batch = siglip.batch(siglip.ids(["red", ""], "cut"))
        assert batch.ids.shape == (2, 16)
        assert batch.ids[1].tolist() == [1] * 16

    def test_the_model_says_its_padding_where_the_tokeniser_does_not(self, folders, tmp_path):
        folder = shutil.copytree(folders["siglip"], tmp_path / "c")
        facts = json.loads((folder / "tokenizer_config.json").read_text())
        del facts["pad_token"]
        (folder / "tokenizer_config.json").write_text(json.dumps(facts))
        config = json.loads((folder / "config.json").read_text())
        for padding in (1, 7):
            config["text_config"]["pad_token_id"] = padding
            (folder / "config.json").write_text(json.dumps(config))
            assert read(folder).rules.padding == padding

    def test_padding_may_stand_before(self, siglip):
        rules = siglip.to_json() | {"padding_left": True, "padding": 0}
        left = CheckpointTokeniser.from_json(siglip.text, rules)
        row = left.ids(["red"], "cut")[0]
        assert left.batch([row]).ids[0].tolist() == [0] * (16 - len(row)) + row

    def test_json_and_back(self, siglip):
        again = CheckpointTokeniser.from_json(siglip.text, siglip.to_json())
        assert again.rules == siglip.rules
        assert torch.equal(
            again.batch(again.ids(CAPTIONS, "cut")).ids,
            siglip.batch(siglip.ids(CAPTIONS, "cut")).ids,
        )


class TestErrors:
    def test_missing(self, folders, tmp_path):
        for family in ("clip", "siglip"):
            folder = shutil.copytree(folders[family], tmp_path / family)
            (folder / "tokenizer.json").unlink()
            with pytest.raises(ModelError, match=r"has no tokeniser \(tokenizer.json\): copy it"):
                read(folder)

    def test_damaged(self, folders, tmp_path):
        folder = shutil.copytree(folders["clip"], tmp_path / "clip")
        text = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(text[: len(text) // 2])
        with pytest.raises(ModelError, match=r"tokenizer.json is damaged .* copy it again"):
            read(folder)
        (folder / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ModelError, match=r"tokenizer.json cannot be read"):
            read(folder)
