"""What each of two processes does in test_processes.py; one process alone does the same there.

As a script: ``ranks.py FOLDER`` with the launcher's variables; it writes ``FOLDER/RANK.json``.
"""

import contextlib
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from sets import small
else:
    from .sets import small

from mmref.cli.main import run
from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.shared_pixels import load_together
from mmref.evaluation import encoding
from mmref.model import MMRef
from mmref.processes.group import join
from mmref.processes.shares import gather_rows
from mmref.training.initialise import read_references
from mmref.training.trainer import Trainer, train

STILL = {"encoder.dropout": 0, "encoder.input_dropout": 0, "encoder.slot_dropout": 0}
UNLEARNED = {"references.fusion_weight": 0, "references.reconstruction_weight": 0}
CASES = {
    "everything": {
        "references.reconstruction_weight": 0.2,
        "references.words_weight": 0.3,
        "loss.masked_words_weight": 0.5,
        "loss.identity_weight": 0.5,
        "training.remix": 0.5,
        "training.word_dropout": 0.2,
    },
    "pixels": {"encoder.kind": "compact", "training.flip": True},
    "guided": {"references.fusion_weight": 0, "references.caption_epochs": 0},
    "sdm": {"loss.kind": "sdm", "references.kind": "ema", **UNLEARNED},
    "triplet": {"loss.kind": "triplet"},
    "clip": {
        "encoder.kind": "clip",
        "encoder.lora_rank": 2,
        "encoder.frozen_image_layers": 1,
        "encoder.gradient_checkpointing": True,
        "references.caption_epochs": 0,
    },
}


def settings_of(folder, case):
    values = {**STILL, "training.batch_size": 17, "training.gradient_clip": 0.5, **CASES[case]}
    return small().with_values({**values, "encoder.checkpoint": str(folder / "checkpoint")})


def one_step(folder, case, *, divided=True):
    """Losses, clipped gradients and buffers of a step on 17 pairs; another must be possible."""
    data = "pixels" if case in ("pixels", "clip") else "features"
    trainer = Trainer(RetrievalDataset.load(folder / data), settings_of(folder, case))
    here = trainer.group.here
    pairs, count = trainer.pairs, here.count if divided else 1
    batch = pairs.batch(0, pairs.order(0), 0, here.rank, count)
    trainer.prepared.train()
    for part in trainer.state.module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    inputs = trainer.steps.inputs(batch)
    losses = trainer.steps.step(inputs, 0, 0, 1.0)
    module = trainer.state.module
    found = {f"loss {name}": torch.tensor(value) for name, value in losses.items()}
    found |= {k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None}
    found |= {k: v.clone() for k, v in module.named_buffers() if "banks" in k}
    trainer.steps.step(inputs, 0, 1, 1.0)
    return found


def fingerprint(tensors):
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().cpu().numpy().tobytes())
    return found.hexdigest()


def exchanges(group, folder):
    """What a group exchanges, with shares of unequal and of no size."""
    rank, seen = group.rank, {}
    for sizes in [(2, 1), (0, 3), (2, 2)]:
        start = sum(sizes[:rank])
        whole = torch.arange(6.0 if sum(sizes) == 3 else 8.0).view(-1, 2)
        own = whole[start : start + sizes[rank]].clone().requires_grad_()
        gathered = gather_rows(own, sizes, rank)
        # A loss that differs between processes: the gradient is the sum over both.
        (gathered**2).sum().mul(rank + 1).backward()
        seen[f"rows {sizes}"] = gathered.tolist() == whole.tolist()
        seen[f"gradient {sizes}"] = own.grad.tolist() == (2 * own * 3).tolist()
    mine = torch.tensor([float(rank)]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).T * rank
    group.mean(list(mine))
    seen["mean"] = [mine[0].item(), mine[1].tolist()] == [0.5, [[0.5, 1.5], [1.0, 2.0]]]
    sent = {"a": torch.tensor([1.5, float("inf")]), "b": torch.tensor(7), "c": torch.ones(2) > 0}
    got = group.send(sent if rank == 0 else None)
    seen["send"] = all(torch.equal(got[k], v) and got[k].dtype == v.dtype for k, v in sent.items())
    rows = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    for size in (2, 4, 20):
        done = []

        def encode(part, done=done):
            done.append(part.start)
            return [rows[part, :1], rows[part, 1:]]

        found = group.in_blocks(11, size, (1, 2), encode)
        seen[f"blocks {size}"] = torch.equal(torch.cat(found, dim=1), rows)
        seen[f"own blocks {size}"] = done
    seen["first"] = group.first(lambda: {"from": rank}) == {"from": 0}
    pixels = RetrievalDataset.load(folder / "pixels")
    shared = load_together(pixels, (8, 8), group, memory_limit=1)
    alone = load_together(pixels, (8, 8), group)
    seen["pixels"] = isinstance(shared.pixels, np.memmap) and not isinstance(
        alone.pixels, np.memmap
    )
    seen["same pixels"] = np.array_equal(shared.pixels, alone.pixels)
    seen["rows of pixels"] = shared.rows.tolist() == alone.rows.tolist()
    return seen


def states(folder):
    """Fingerprints of a training's state after each of its stages, with batch normalisation."""
    settings = small("compact", training__epochs=2, references__caption_epochs=4)
    trainer = Trainer(RetrievalDataset.load(folder / "pixels"), settings)
    seen = {}

    def note(stage):
        state = trainer.state
        seen[f"{stage}: module"] = fingerprint(state.module.state_dict())
        seen[f"{stage}: average"] = fingerprint(state.average.tensors)

    note("prepared")
    trainer._start()
    note("started")
    for number in range(2):
        trainer._epoch(number)
        note(f"epoch {number}")
    trainer.state.module.eval()
    share, value = trainer._score().values()
    seen["score"] = [share, value]
    trainer._learn_decoder()
    note("decoder")
    objective, device = trainer.state.module.objective, trainer.accelerator.device
    found = read_references(trainer.encoder, objective, trainer.pairs, device, group=trainer.group)
    seen["references"] = fingerprint({"r": found.vectors, "m": found.text_mean, **found.decoder})
    return seen


def evaluation(folder, group):
    """The vectors of the finished run's val split, one picture of which cannot be read."""
    model, seen = MMRef.from_pretrained(folder / "whole" / "run"), {}
    encoding._BATCH = 3  # several blocks
    for name in ("features", "pixels"):
        if name == "pixels":
            data = RetrievalDataset.load(folder / "pixels")
            values = {"training.epochs": 0, "references.caption_epochs": 0}
            trainer = Trainer(data, small("compact").with_values(values))
            model = MMRef(trainer.encoder.eval(), trainer.settings)
            data = RetrievalDataset.load(folder / "damaged")
        else:
            data = RetrievalDataset.load(folder / "features")
        found = encoding.encode_split(model, data, "val", group=group)
        seen[name] = [found.texts.tolist(), found.images.tolist(), found.held, found.rows]
        seen[name].append([Path(one["path"]).name for one in found.skipped])
    options = ["--data", str(folder / "features"), "--json", str(folder / "report.json")]
    try:
        run(["evaluate", str(folder / "whole" / "run"), *options])
    except SystemExit as left:
        seen["status"] = left.code
    return seen


def refusal(folder):
    """The exit status of a command that is wrong for all, and what this process says of it."""
    words = ["train", "--data", str(folder / "features"), "--out", str(folder / "whole" / "run")]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            run(words)
        except SystemExit as left:
            return [left.code, said.getvalue()]
    return None


def main(folder):
    torch.set_num_threads(1)
    group, out = join(), {}
    out["exchanges"] = exchanges(group, folder)
    for case in CASES:
        found = one_step(folder, case)
        if group.main:
            np.savez(folder / f"{case}.npz", **{k: v.numpy() for k, v in found.items()})
        out[f"step {case}"] = fingerprint(found)
    found = one_step(folder, "everything", divided=False)
    if group.main:
        np.savez(folder / "undivided.npz", **{k: v.numpy() for k, v in found.items()})
    out["states"] = states(folder)
    settings = Settings.from_yaml(folder / "settings.yaml")
    data = RetrievalDataset.load(folder / "features")
    out["whole"] = train(data, folder / "whole" / "run", settings).digest
    out["evaluation"] = evaluation(folder, group)
    out["refusal"] = refusal(folder)  # the last one: nothing goes on behind an error
    (folder / f"{group.rank}.json").write_text(json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
