"""Tiny captions with known errors: objects in four attributes, said in several words."""

import numpy as np

COLOURS = {
    "red": ("red", "crimson"),
    "blue": ("blue", "azure"),
    "green": ("green", "emerald"),
    "black": ("black", "ebony"),
}
HEADS = {"hat": ("hat", "cap"), "shoes": ("shoes", "boots"), "bag": ("bag", "purse")}


def told(
    objects: int = 50, captions: int = 6, wrong: float = 0.05, seed: int = 0
) -> tuple[list[str], list[str], list[bool]]:
    """Captions, their objects, and which of them get a colour wrong."""
    rng = np.random.default_rng(seed)
    texts, names, bad = list[str](), list[str](), list[bool]()
    for number in range(objects):
        truth = {head: rng.choice(list(COLOURS)) for head in HEADS}
        for _ in range(captions):
            said, slip = list[str](), False
            for head, nouns in HEADS.items():
                colour = str(truth[head])
                if rng.random() < wrong:
                    colour = str(rng.choice([c for c in COLOURS if c != colour]))
                    slip = True
                if rng.random() < 0.8 or colour != truth[head]:
                    said.append(f"a {rng.choice(COLOURS[colour])} {rng.choice(nouns)}")
            texts.append(f"{rng.choice(['somebody', 'a person'])} with {', '.join(said)}")
            names.append(f"o{number:03d}")
            bad.append(slip)
    return texts, names, bad
