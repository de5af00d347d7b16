"""CLIP's text tower with trimmed captions against captions padded to 77 tokens: time and outputs.

    python benchmarks/clip_text.py            # forward, and forward with backward; about a minute
    python benchmarks/clip_text.py --quick

The tower has the shape of ViT-B/16's (12 blocks, width 512) and random weights. The captions are
rows of random tokens as long as those of CUHK-PEDES: 23 words in the mean, 96 at most, 1.2 tokens
a word and two at the ends. "longest" trims a batch to its longest caption; "groups" is what the
encoder does: captions of about one length together. All ways take turns in one process, and the
median of their ratios counts; on a CPU in seconds of the process, for other processes may be at
work too. Bound: groups at least 2 times as fast as padded. Writes
benchmarks/results/clip_text.json; leaves with 1 beyond the bound or where the outputs differ.
"""

import argparse
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch import Tensor

from mmref.config import EncoderSettings
from mmref.data.text import CaptionTokeniser
from mmref.encoders.clip.checkpoint import PixelScaling
from mmref.encoders.clip.encoder import ClipEncoder
from mmref.encoders.clip.tokens import CheckpointTokeniser, TokenBatch, TokenRules
from mmref.encoders.clip.towers import full_config
from mmref.environment import describe_environment
from mmref.files import write_json

BOUND, TOLERANCE = 2.0, 1e-5
WORDS, LONGEST, TOKENS_PER_WORD = 23, 96, 1.2
START, END = 49406, 49407
WAYS = ("padded", "longest", "groups")


def encoder() -> ClipEncoder:
    """The text tower of ViT-B/16 beside an image tower of one small block, which is not used."""
    vision = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 1}
    config = full_config({"model_type": "clip", "vision_config": vision | {"patch_size": 16}})
    rules = TokenRules(77, "plain", (START,), (END,), END, False, True)
    tokens = CheckpointTokeniser(str(Tokenizer(models.WordLevel({"a": 0}, "a")).to_str()), rules)
    torch.manual_seed(0)
    scaling = PixelScaling(1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    settings = EncoderSettings(kind="clip", image_height=224, image_width=224)
    made = ClipEncoder(settings, config, tokens, scaling, CaptionTokeniser.learn([]))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            else:
                parameter.fill_(float("norm" in name and name.endswith("weight")))
    return made


def captions(count: int, rng: np.random.Generator) -> list[list[int]]:
    """Rows of random tokens, as long as CUHK-PEDES's captions are."""
    spread = 0.35
    words = rng.lognormal(np.log(WORDS) - spread**2 / 2, spread, count).clip(5, LONGEST)
    lengths = np.minimum(np.rint(words * TOKENS_PER_WORD).astype(int), 75)
    return [[START, *rng.integers(0, START, n).tolist(), END] for n in lengths]


def batches(made: ClipEncoder, rows: list[list[int]]) -> dict[str, TokenBatch]:
    """The same captions in the three ways."""
    groups = made.text_batch(rows)
    full = torch.full((len(rows), 77), END)
    full[:, : groups.ids.shape[1]] = groups.ids
    plain = groups._replace(lengths=())
    return {"padded": plain._replace(ids=full), "longest": plain, "groups": groups}


def timed(made: ClipEncoder, batch: TokenBatch, backward: bool) -> tuple[float, Tensor]:
    clock = time.perf_counter if batch.ids.is_cuda else time.process_time
    begun = clock()
    with torch.set_grad_enabled(backward):
        vectors = made.encode_text(batch)
    if backward:
        made.zero_grad()
        (vectors**3).sum().backward()
    if batch.ids.is_cuda:
        torch.cuda.synchronize()
    return clock() - begun, vectors.detach()


def measure(
    made: ClipEncoder, size: int, repeats: int, backward: bool, device: str
) -> dict[str, Any]:
    rng = np.random.default_rng(size)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    difference = 0.0
    for turn in range(repeats + 1):
        rows = captions(size, rng)
        vectors = {}
        for way, batch in batches(made, rows).items():
            taken, vectors[way] = timed(made, batch.to(device), backward)
            if turn:  # the first one warms up
                seconds[way].append(taken)
        for way in WAYS[1:]:
            difference = max(difference, float((vectors[way] - vectors["padded"]).abs().max()))
    ratios = {
        way: statistics.median(p / q for p, q in zip(seconds["padded"], seconds[way], strict=True))
        for way in WAYS[1:]
    }
    return {
        "captions": size,
        "backward": backward,
        "repeats": repeats,
        "captions_per_s": {way: round(size / statistics.median(seconds[way]), 1) for way in WAYS},
        "times_as_fast_as_padded": {way: round(ratio, 2) for way, ratio in ratios.items()},
        "largest_difference": difference,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "clip_text.json"))
    options = parser.parse_args()
    repeats = 1 if options.quick else options.repeats
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = encoder().to(device)
    runs = [
        measure(made, size, repeats, backward, device)
        for size, backward in ((64, False), (64, True))
    ]
    lengths = [len(row) - 2 for row in captions(10_000, np.random.default_rng(0))]
    good = all(
        run["times_as_fast_as_padded"]["groups"] >= BOUND and run["largest_difference"] < TOLERANCE
        for run in runs
    )
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "shape": "12 blocks, width 512, 77 places, random weights",
        "mean_tokens": round(statistics.mean(lengths), 1),
        "device": device,
        "threads": torch.get_num_threads(),
        "runs": runs,
        "bound": BOUND,
        "within_bound": good,
        "python": platform.python_version(),
        **describe_environment(),
    }
    write_json(options.out, report)
    for run in runs:
        what = "with backward" if run["backward"] else "forward"
        ratio, rate = run["times_as_fast_as_padded"], run["captions_per_s"]
        print(
            f"{run['captions']:>4} captions, {what:<13}  padded {rate['padded']:,.0f}/s, "
            f"longest {ratio['longest']} x, groups {ratio['groups']} x, "
            f"largest difference {run['largest_difference']:.1e}"
        )
    print("within the bounds" if good else "BEYOND THE BOUNDS")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
