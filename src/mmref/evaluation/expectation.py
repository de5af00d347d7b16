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
import scipy.sparse as sp
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
_SEEN = torch.tensor(  # the last is what is said anywhere
    [[1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1], [0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1]]
).float()
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
        once = np.unique(wording.caption * size + wording.words)  # a word counts once a caption
        ones = np.ones(len(once), dtype=np.float32)
        bags = sp.csr_matrix((ones, np.divmod(once, size)), shape=(captions, size))
        lengths = np.maximum(np.bincount(once // size, minlength=captions), 1)
        anywhere = np.zeros((captions, size), dtype=np.float32)
        fold_of = folds[wording.objects]
        for fold, table in enumerate(tables):
            rows = np.flatnonzero(fold_of == fold)
            anywhere[rows] = (bags[rows] @ table[-1]) / lengths[rows, None]
        for number in range(int(wording.objects.max()) + 1):
            first, behind = np.searchsorted(wording.objects, (number, number + 1))
            own = anywhere[first:behind]
            own[:] = (own.sum(axis=0) - own) / max(behind - first - 1, 1)
        return cls(
            words=torch.from_numpy(wording.words),
            around=torch.from_numpy(wording.around),
            caption=torch.from_numpy(wording.caption),
            fold=torch.from_numpy(fold_of[wording.caption]),
            aligned=torch.from_numpy(wording.words[alignment.places]),
            weights=torch.from_numpy(alignment.weights),
            tables=torch.from_numpy(tables),
            anywhere=torch.from_numpy(anywhere),
            often=torch.from_numpy(wording.frequency.astype(np.float32)),
        )

    @torch.no_grad()
    def said_of(self, rows: Tensor) -> Tensor:
        """What the other captions say of some words: log P(w | what is said elsewhere) / P(w).

        Args:
            rows: the words, Tensor[b].

        Returns:
            Tensor[b, softenings * sources, vocabulary]: each channel and, last, anywhere, softened
            in three ways.
        """
        size, sources = len(self.often), len(CHANNELS) + 1
        weights = self.weights[:, rows].transpose(0, 1)
        mass = weights.sum(dim=2, keepdim=True) + _PRIOR
        bags = torch.zeros(len(rows), len(CHANNELS), size)
        bags.scatter_add_(2, self.aligned[:, rows].transpose(0, 1).long(), weights / mass)
        ratios = torch.empty(len(rows), sources, size)
        fold = self.fold[rows]
        for number, table in enumerate(self.tables):
            mine = torch.nonzero(fold == number).flatten()
            for channel in range(len(CHANNELS)):
                ratios[mine, channel] = bags[mine, channel] @ table[channel]
        ratios[:, -1] = self.anywhere[self.caption[rows]]
        ratios /= self.often
        ratios[:, :-1] += _PRIOR / mass
        found = torch.empty(len(rows), len(_SOFTENING) * sources, size)
        for k, soft in enumerate(_SOFTENING):
            part = found[:, k * sources : (k + 1) * sources]
            torch.add(ratios, soft, out=part).div_(1 + soft).log_()
        return found


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
        logits, trust = self.alone(evidence, rows, views)
        told = torch.nonzero(others).flatten()
        said = self.weighed(trust[told], evidence.said_of(rows[told]), views[told])
        return logits.index_add(0, told, said)

    def alone(self, evidence: Evidence, rows: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """What the context alone says.

        Returns:
            Logits, Tensor[b, vocabulary], and how far each source is to be trusted here,
            Tensor[b, softenings * sources].
        """
        around = torch.where(_COLUMNS[views], evidence.around[rows], HIDDEN)
        hidden = torch.stack(
            [place(self.embedding(around[:, k])) for k, place in enumerate(self.places)]
        ).sum(dim=0)
        hidden = self.dropout(hidden)
        hidden = self.norm(hidden + self.feed(hidden))
        logits: Tensor = self.out(hidden)
        return logits, self.trust + 0.2 * self.trust_here(hidden)

    @staticmethod
    def weighed(trust: Tensor, said: Tensor, views: Tensor) -> Tensor:
        """What the other captions add to the logits.

        Args:
            trust: as :meth:`alone` gives it, Tensor[b, softenings * sources].
            said: as ``Evidence.said_of`` gives it.
            views: the view of each, Tensor[b]; it decides which sources count.

        Returns:
            Tensor[b, vocabulary].
        """
        seen = _SEEN[views].repeat(1, len(_SOFTENING))
        return torch.bmm((trust * seen)[:, None], said)[:, 0]


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
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
                if progress:
                    progress(epoch * batches + number + 1, epochs * batches)
    return model.eval()


def _judged(evidence: Evidence, rows: Ints | None) -> tuple[Tensor, ...]:
    wanted = torch.arange(len(evidence.words)) if rows is None else torch.from_numpy(rows)
    wanted = wanted[evidence.words[wanted] >= ORDINARY]
    return torch.split(wanted, _BATCH) if len(wanted) else ()


def judging_batches(evidence: Evidence, rows: Ints | None = None) -> int:
    """How many batches :func:`log_ratios` takes."""
    return len(_judged(evidence, rows))


@torch.no_grad()
def log_ratios(
    model: Expectation,
    evidence: Evidence,
    rows: Ints | None = None,
    progress: Progress | None = None,
) -> Floats:
    """The log of P(word | context, other captions) / P(word | context), float32 [n, views].

    Rare words have 0, for nothing is expected of them, and so have those not in ``rows``.

    Args:
        model: fitted.
        evidence: what can be read.
        rows: the words to judge; None for all.
        progress: called with the number of batches done and the total.
    """
    found = torch.zeros(len(evidence.words), len(VIEWS))
    parts = _judged(evidence, rows)
    for number, part in enumerate(parts):
        asked = evidence.words[part][:, None]
        said = evidence.said_of(part)
        for view in range(len(VIEWS)):
            views = torch.full((len(part),), view)
            logits, trust = model.alone(evidence, part, views)
            with_others = logits + model.weighed(trust, said, views)
            logs = [x.log_softmax(dim=1).gather(1, asked)[:, 0] for x in (with_others, logits)]
            found[part, view] = (logs[0] - logs[1]).clamp(-_LONGEST, _LONGEST)
        if progress:
            progress(number + 1, len(parts))
    return found.numpy()
