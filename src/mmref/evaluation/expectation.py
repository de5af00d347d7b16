"""What a word is expected to be, once with and once without the object's other captions.

``log P(word | its context, the other captions) - log P(word | its context)`` is a likelihood
ratio: about 0 where the others say nothing of it, positive where they agree, strongly negative
where they say something else in its place. Words that are a matter of style cancel out.

P is a small model of masked words, fitted for a minute on the very captions it judges. Its first
part sees the context alone and may memorise what it likes, for it cancels in the ratio. What the
other captions say comes in only through the translations of :mod:`mmref.evaluation.wording`, which
were learnt from other objects, weighted by a few dozen learnt numbers: so a caption cannot vouch
for itself, and 3,000 captions are enough. All of it is our choice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.evaluation.wording import (
    CHANNELS,
    HIDDEN,
    ORDINARY,
    REACH,
    VIEWS,
    Alignment,
    Floats,
    Ints,
    Wording,
)

Progress = Callable[[int, int], None]

_BATCH = 1024
_SOFTENING = (0.02, 0.2, 2.0)  # how much evidence counts as little
_MOST_EPOCHS = 30
_PRIOR = 0.2  # weight of "nothing is aligned"
_LONGEST = 12.0  # a ratio beyond e^12 says no more
# Which of the context's columns, and which channels, each view may look at.
_COLUMNS = torch.tensor(
    [[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
).bool()
_SEEN = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]]).float()
_SHARES = torch.tensor([0.5, 0.2, 0.2, 0.1])  # of the views in training


@dataclass(frozen=True)
class Evidence:
    """What the model reads, as tensors.

    Attributes:
        words: word ids, Tensor[n].
        around: contexts, Tensor[n, 6].
        caption: caption of each word, Tensor[n].
        fold: fold of each word's object, Tensor[n].
        aligned: ids of aligned words, Tensor[channels, n, k].
        weights: of the alignment, Tensor[channels, n, k].
        tables: P(w | u) of each fold and channel and, last, of all, Tensor[folds, channels + 1,
            u, w].
        anywhere: for each caption the mean of P(w | u) over all words u of the object's other
            captions, Tensor[captions, vocabulary].
        often: frequency of each word, Tensor[vocabulary].
    """

    words: Tensor
    around: Tensor
    caption: Tensor
    fold: Tensor
    aligned: Tensor
    weights: Tensor
    tables: Tensor
    anywhere: Tensor
    often: Tensor

    @classmethod
    def of(cls, wording: Wording, alignment: Alignment, tables: Floats, folds: Ints) -> "Evidence":
        """Gather what the model reads."""
        size, captions = len(wording.vocabulary), len(wording.captions)
        bags = np.zeros((captions, size), dtype=np.float32)
        bags[wording.caption, wording.words] = 1.0
        said = np.zeros_like(bags)
        fold_of = folds[wording.objects]
        for fold, table in enumerate(tables):
            rows = fold_of == fold
            said[rows] = bags[rows] @ table[-1]
        said /= np.maximum(bags.sum(axis=1, keepdims=True), 1)
        sums = np.zeros((int(wording.objects.max()) + 1, size), dtype=np.float32)
        np.add.at(sums, wording.objects, said)
        others = np.bincount(wording.objects)[wording.objects] - 1
        anywhere = (sums[wording.objects] - said) / np.maximum(others, 1)[:, None]
        return cls(
            words=torch.from_numpy(wording.words),
            around=torch.from_numpy(wording.around),
            caption=torch.from_numpy(wording.caption),
            fold=torch.from_numpy(fold_of[wording.caption]),
            aligned=torch.from_numpy(wording.words[alignment.places]),
            weights=torch.from_numpy(alignment.weights),
            tables=torch.from_numpy(tables),
            anywhere=torch.from_numpy(anywhere.astype(np.float32)),
            often=torch.from_numpy(wording.frequency.astype(np.float32)),
        )


class Expectation(nn.Module):
    """P(word | context) times powers of what the other captions say, normalised.

    Args:
        vocabulary: number of ids.
        width: of the part that sees the context.
        dropout: in that part.
    """

    def __init__(self, vocabulary: int, width: int = 48, dropout: float = 0.2) -> None:
        super().__init__()
        sources = len(CHANNELS) + 1
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.places = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2 * REACH))
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary)
        self.trust = nn.Parameter(torch.full((len(_SOFTENING) * sources,), 0.1))
        self.trust_here = nn.Linear(width, len(_SOFTENING) * sources)
        nn.init.zeros_(self.trust_here.weight)
        nn.init.zeros_(self.trust_here.bias)

    def forward(self, evidence: Evidence, rows: Tensor, views: Tensor, others: Tensor) -> Tensor:
        """Logits of words.

        Args:
            evidence: what can be read.
            rows: which words to predict, Tensor[b].
            views: the view of each, Tensor[b].
            others: whether each may see the other captions, boolean Tensor[b].

        Returns:
            Tensor[b, vocabulary].
        """
        around = torch.where(_COLUMNS[views], evidence.around[rows], HIDDEN)
        hidden = torch.stack(
            [place(self.embedding(around[:, k])) for k, place in enumerate(self.places)]
        ).sum(dim=0)
        hidden = self.dropout(hidden)
        hidden = self.norm(hidden + self.feed(hidden))
        logits: Tensor = self.out(hidden)
        ratios = self._ratios(evidence, rows, _SEEN[views] * others.float()[:, None], others)
        trust = self.trust + 0.2 * self.trust_here(hidden)
        for k, soft in enumerate(_SOFTENING):
            share = trust[:, k * ratios.shape[1] : (k + 1) * ratios.shape[1]]
            logits = logits + torch.einsum("bc,bcv->bv", share, _log_soft(ratios, soft))
        return logits

    @staticmethod
    def _ratios(evidence: Evidence, rows: Tensor, seen: Tensor, others: Tensor) -> Tensor:
        """P(w | what is said elsewhere) / P(w) of each source, Tensor[b, sources, vocabulary]."""
        size = len(evidence.often)
        weights = evidence.weights[:, rows].transpose(0, 1) * seen[:, :, None]
        mass = weights.sum(dim=2, keepdim=True) + _PRIOR
        bags = torch.zeros(len(rows), len(CHANNELS), size)
        bags.scatter_add_(2, evidence.aligned[:, rows].transpose(0, 1), weights / mass)
        said = torch.empty_like(bags)
        fold = evidence.fold[rows]
        for number, table in enumerate(evidence.tables):
            mine = fold == number
            said[mine] = torch.einsum("bcu,cuw->bcw", bags[mine], table[:-1])
        aligned = said / evidence.often + _PRIOR / mass
        anywhere = evidence.anywhere[evidence.caption[rows]] / evidence.often
        anywhere = torch.where(others[:, None], anywhere, torch.ones(()))
        return torch.cat([aligned, anywhere[:, None]], dim=1)


def _log_soft(ratios: Tensor, soft: float) -> Tensor:
    return torch.log((ratios + soft) / (1 + soft))


def fit(
    evidence: Evidence,
    *,
    visits: int = 600_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Expectation:
    """Fit the model to all words that are not rare; half of each batch's views are two-sided.

    Args:
        evidence: what can be read.
        visits: words seen, in whole passes of which there are at most 30.
        seed: of weights, order, views and dropout. The global random state is left as it was.
        progress: called with the number of batches done and the total.
    """
    known = torch.nonzero(evidence.words >= ORDINARY).flatten()
    batches = -(-len(known) // _BATCH)
    epochs = min(max(round(visits / max(len(known), 1)), 1), _MOST_EPOCHS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Expectation(len(evidence.often))
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, 5e-3, total_steps=max(epochs * batches, 2), pct_start=0.1
        )
        for epoch in range(epochs):
            order = known[torch.randperm(len(known))]
            for number, rows in enumerate(order.chunk(batches)):
                views = torch.multinomial(_SHARES, len(rows), replacement=True)
                others = torch.rand(len(rows)) < 0.75
                loss = F.cross_entropy(model(evidence, rows, views, others), evidence.words[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                if progress:
                    progress(epoch * batches + number + 1, epochs * batches)
    return model.eval()


@torch.no_grad()
def log_ratios(model: Expectation, evidence: Evidence, rows: Ints | None = None) -> Floats:
    """The log of P(word | context, other captions) / P(word | context), float32 [n, views].

    Rare words have 0, for nothing is expected of them, and so have those not in ``rows``.
    """
    found = torch.zeros(len(evidence.words), len(VIEWS))
    wanted = torch.arange(len(evidence.words)) if rows is None else torch.from_numpy(rows)
    wanted = wanted[evidence.words[wanted] >= ORDINARY]
    for part in torch.split(wanted, 2 * _BATCH):
        asked = evidence.words[part][:, None]
        for view in range(len(VIEWS)):
            views = torch.full((len(part),), view)
            said = [
                model(evidence, part, views, torch.full((len(part),), others))
                .log_softmax(dim=1)
                .gather(1, asked)[:, 0]
                for others in (True, False)
            ]
            found[part, view] = (said[0] - said[1]).clamp(-_LONGEST, _LONGEST)
    return found.numpy()
