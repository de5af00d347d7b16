import numpy as np
import torch
from torch.nn import functional as F

from mmref.evaluation.failures import retrieval_failures


class Cosine:
    """A model without refinement."""

    def similarity(self, texts, images, refine=True):
        return texts @ images.T


def setting(seed=0):
    generator = torch.Generator().manual_seed(seed)
    texts = F.normalize(torch.randn(40, 6, generator=generator), dim=1)
    images = F.normalize(torch.randn(30, 6, generator=generator), dim=1)
    asked = [f"o{i % 10}" for i in range(40)]
    held = [f"o{i % 9}" for i in range(30)]  # o9 has no image
    return texts, images, [f"caption {i}" for i in range(40)], asked, held


def find(count=8, **kwargs):
    texts, images, captions, asked, held = setting()
    return retrieval_failures(Cosine(), texts, images, captions, asked, held, count=count, **kwargs)


def test_ranks_are_those_of_a_sort():
    texts, images, captions, asked, held = setting()
    found = find(count=100)
    scores = (texts @ images.T).numpy()
    ranks = {}
    for row, name in enumerate(asked):
        right = np.array([owner == name for owner in held])
        if right.any():
            ranks[captions[row]] = 1 + int((scores[row] > scores[row][right].max()).sum())
    assert found.queries == len(ranks) == 36
    assert {f.caption: f.rank for f in found.worst} == {c: r for c, r in ranks.items() if r > 1}
    assert found.failed == len(found.worst)


def test_each_object_once_before_any_twice_and_the_worst_first():
    found = find(count=9)
    names = [failure.object for failure in found.worst]
    assert len(set(names)) == len(names)
    ranks = [failure.rank for failure in found.worst]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == max(failure.rank for failure in find(count=100).worst)


def test_what_was_retrieved_is_marked_and_the_truth_is_named():
    texts, images, captions, _, held = setting()
    for failure in find(count=4, shown=7).worst:
        row = captions.index(failure.caption)
        order = torch.argsort(texts[row] @ images.T, descending=True).tolist()
        assert [hit.image for hit in failure.retrieved] == order[:7]
        assert [hit.right for hit in failure.retrieved] == [
            held[i] == failure.object for i in order[:7]
        ]
        assert not failure.retrieved[0].right
        assert set(failure.truth) == {i for i, o in enumerate(held) if o == failure.object}
        assert order.index(failure.truth[0]) == failure.rank - 1
        right = float(texts[row] @ images[failure.truth[0]])
        assert abs(failure.score - right) < 1e-4


def test_a_tied_wrong_image_ranks_first():
    same = torch.ones(1, 2) / 2**0.5
    found = retrieval_failures(
        Cosine(), same, same.repeat(3, 1), ["c"], ["x"], ["y", "x", "z"], count=1
    )
    assert found.worst[0].rank == 3
