"""Checkpoints that are absent, damaged or of another kind, and those stored in older ways."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmref import MMRef
from mmref.encoders.clip import hub
from mmref.encoders.clip.checkpoint import native_size, read_scaling, read_weights
from mmref.encoders.clip.encoder import ClipEncoder
from mmref.errors import ModelError, PathError

from .made import clip_settings


@pytest.fixture
def folder(folders, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(folders["clip"], tmp_path / "clip")


def load(folder):
    return ClipEncoder.from_checkpoint(clip_settings(folder))


def write_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def same(one, two):
    return all(torch.equal(two.state_dict()[k], v) for k, v in one.state_dict().items())


class TestWaysToStore:
    def test_bin_files_give_tensors_alone(self, folder, folders):
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        old = weights | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
        torch.save(old, folder / "pytorch_model.bin")
        assert same(load(folders["clip"]), load(folder))

    def test_a_bin_file_that_would_run_code_is_refused(self, folder, tmp_path):
        class Evil:
            def __reduce__(self):
                return (print, ("run",))

        (folder / "model.safetensors").unlink()
        torch.save({"a": Evil()}, folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"pytorch_model.bin is damaged or cut off"):
            load(folder)

    def test_parts_with_an_index(self, folder, folders):
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(weights)
        places = {}
        for number, part in enumerate((names[::2], names[1::2]), 1):
            file = f"model-{number:05d}-of-00002.safetensors"
            save_file({name: weights[name] for name in part}, folder / file)
            places |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        assert same(load(folders["clip"]), load(folder))
        (folder / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(ModelError, match=r"lacks model-00002-of-00002.safetensors, which"):
            load(folder)

    def test_half_precision_becomes_single(self, folder):
        weights = load_file(folder / "model.safetensors")
        save_file({k: v.half() for k, v in weights.items()}, folder / "model.safetensors")
        assert {p.dtype for p in load(folder).parameters()} == {torch.float32}

    def test_the_scaling_may_stand_in_the_processor_s_file(self, folder):
        wanted = read_scaling(folder)
        inner = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").unlink()
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
        assert read_scaling(folder) == wanted
        inner |= {"do_normalize": False, "do_rescale": False}
        (folder / "processor_config.json").write_text(json.dumps(inner))
        assert read_scaling(folder).mean == (0, 0, 0)
        assert read_scaling(folder).factor == 1

    def test_native_sizes(self):
        assert native_size({"model_type": "siglip"}) == (224, 224, 16)
        vision = {"image_size": [384, 128], "patch_size": [16, 16]}
        assert native_size({"vision_config": vision}) == (384, 128, 16)


class TestErrors:
    def test_no_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(
            ModelError, match=r"has no weights \(model.safetensors or pytorch_model"
        ):
            load(folder)

    @pytest.mark.parametrize("left", [0, 4, 1000, -100])
    def test_cut_off_weights(self, folder, left):
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[:left])
        with pytest.raises(ModelError, match=r"model.safetensors is damaged or cut off"):
            load(folder)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x04K\x01."])
    def test_damaged_bin(self, folder, content):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ModelError, match=r"pytorch_model.bin is damaged or cut off"):
            load(folder)

    def test_weights_of_one_tower(self, folder):
        weights = load_file(folder / "model.safetensors")
        text = {k: v for k, v in weights.items() if not k.startswith("vision_model")}
        save_file(text, folder / "model.safetensors")
        with pytest.raises(ModelError, match=r"lack \d+ of \d+ tensors \(vision_model"):
            load(folder)

    def test_weights_of_another_shape(self, folder):
        config = json.loads((folder / "config.json").read_text())
        write_config(folder, vision_config=config["vision_config"] | {"patch_size": 16})
        with pytest.raises(ModelError, match=r"do not fit its config.json: vision_model"):
            load(folder)

    def test_an_impossible_configuration(self, folder):
        config = json.loads((folder / "config.json").read_text())
        for wrong in ({"num_attention_heads": 5}, {"hidden_act": "nothing"}, {"patch_size": "x"}):
            write_config(folder, vision_config=config["vision_config"] | wrong)
            with pytest.raises(ModelError, match="describes no possible"):
                load(folder)

    def test_other_kinds_of_model(self, folder, tmp_path):
        write_config(folder, model_type="siglip2")
        with pytest.raises(ModelError, match=r"NaFlex.* take a fixed-resolution one"):
            load(folder)
        write_config(folder, model_type="bert")
        with pytest.raises(ModelError, match=r"type 'bert', not both towers of CLIP or SigLIP"):
            load(folder)
        (folder / "config.json").write_text("[1]")
        with pytest.raises(ModelError, match=r"config.json is damaged \(no JSON object\)"):
            load(folder)
        (folder / "config.json").write_text("{")
        with pytest.raises(ModelError, match=r"config.json is damaged"):
            load(folder)
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"is no checkpoint, it lacks config.json"):
            load(folder)

    def test_the_scaling_is_needed(self, folder):
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [1]}))
        with pytest.raises(ModelError, match=r"preprocessor_config.json is damaged"):
            load(folder)
        (folder / "preprocessor_config.json").unlink()
        with pytest.raises(ModelError, match=r"lacks preprocessor_config.json, which says how"):
            load(folder)


class TestHub:
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch, tmp_path):
        """An empty cache and no network."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        self.cache = tmp_path / "cache"

    def cached(self, source):
        """Put a checkpoint into the cache as if it had been downloaded."""
        repository = self.cache / "models--someone--small-clip"
        shutil.copytree(source, repository / "snapshots" / "0f1e2d")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0f1e2d")

    def test_neither_cached_nor_reachable(self):
        wanted = r"no folder here, its weights are not in the hub's cache, .* `hf download"
        with pytest.raises(ModelError, match=wanted):
            load("someone/small-clip")
        with pytest.raises(ModelError, match=wanted):
            MMRef.from_pretrained("someone/small-clip")

    def test_the_cache_is_enough(self, folders):
        self.cached(folders["clip"])
        assert same(load(folders["clip"]), load("someone/small-clip"))
        model = MMRef.from_pretrained("someone/small-clip")
        assert model.id.startswith("small-clip-")

    def test_a_cached_snapshot_without_weights_does_not_do(self, folders):
        self.cached(folders["clip"])
        for file in self.cache.rglob("model.safetensors"):
            file.unlink()
        with pytest.raises(ModelError, match="the hub cannot be reached"):
            load("someone/small-clip")

    def test_paths_are_no_ids(self, tmp_path, monkeypatch):
        with pytest.raises(PathError, match="no checkpoint at /nowhere/at/all"):
            hub.find_checkpoint("/nowhere/at/all")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs").mkdir()
        with pytest.raises(PathError, match="no checkpoint at runs/flag: give a folder"):
            hub.find_checkpoint("runs/flag")
        with pytest.raises(PathError, match="no run folder at runs/flag"):
            MMRef.from_pretrained("runs/flag")
        assert hub.is_hub_id("someone/small-clip")
        assert not hub.is_hub_id("runs")

    def test_weights_are_downloaded_as_safetensors_or_else_as_bin(self, folders, monkeypatch):
        """The calls to the hub, one after another, when nothing is cached but the hub answers."""
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        asked = []
        there = self.cache / "there"
        shutil.copytree(folders["clip"], there)
        weights = load_file(there / "model.safetensors")
        (there / "model.safetensors").unlink()

        def download(name, *, allow_patterns, local_files_only):
            asked.append((name, local_files_only, "pytorch_model.bin" in allow_patterns))
            if local_files_only:
                raise LocalEntryNotFoundError("not here")
            if "pytorch_model.bin" in allow_patterns:
                torch.save(weights, there / "pytorch_model.bin")
            return str(there)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        assert "text_projection.weight" in read_weights(hub.find_checkpoint("someone/clip"))
        name = "someone/clip"
        assert asked == [(name, True, False), (name, False, False), (name, False, True)]
