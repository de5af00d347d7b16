"""Captions -> token ids: a word tokeniser learnt from the training captions, masks, re-mixing.

Nothing here changes what it is given: masking and re-mixing return new lists and tensors.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

PADDING, UNKNOWN, MASK = 0, 1, 2
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")
# A word is a run of letters and digits; scripts written without spaces count by character.
_SINGLE = r"\x{3005}\x{3040}-\x{30ff}\x{3400}-\x{9fff}"
_WORD = rf"[{_SINGLE}]|[^\W_{_SINGLE}]+"
_PHRASE = re.compile(r"\s*(?:[,;.:!?]+|\band\b|\bwith\b|\bwearing\b)\s*", re.IGNORECASE)


class CaptionTokeniser:
    """Lower-cased words of the training captions, each with an id.

    Args:
        tokenizer: a trained word-level tokenizer with the three special tokens first.

    Example:
        >>> tokeniser = CaptionTokeniser.learn(["A red hat", "a blue hat!"])
        >>> tokeniser.words(["The RED hat"]), tokeniser.ids(["The RED hat"])
        ([['the', 'red', 'hat']], [[1, 6, 4]])
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # "[PAD]" in a caption is a word like any other
        self.vocabulary: dict[str, int] = tokenizer.get_vocab()

    @classmethod
    def learn(cls, captions: Iterable[str], *, size: int = 30_000) -> "CaptionTokeniser":
        """Learn the vocabulary: the ``size`` most frequent words, ties in alphabetical order."""
        tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(
            Regex(_WORD), behavior="removed", invert=True
        )
        trainer = trainers.WordLevelTrainer(
            vocab_size=size, special_tokens=list(SPECIAL), show_progress=False
        )
        tokenizer.train_from_iterator(sorted(set(captions)), trainer)
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> "CaptionTokeniser":
        """Rebuild from :meth:`to_json`."""
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """The whole tokeniser as JSON, in the ``tokenizers`` format."""
        return str(self._tokenizer.to_str())

    def __len__(self) -> int:
        return len(self.vocabulary)

    def words(self, captions: Sequence[str]) -> list[list[str]]:
        """The words of each caption, known or not."""
        normal = self._tokenizer.normalizer
        split = self._tokenizer.pre_tokenizer
        return [[w for w, _ in split.pre_tokenize_str(normal.normalize_str(c))] for c in captions]

    def spans(self, captions: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where each word stands in its caption: its first character, and the one behind its last.

        Example:
            >>> CaptionTokeniser.learn([]).spans(["a T-shirt"])
            [[(0, 1), (2, 3), (4, 9)]]
        """
        return [list(e.offsets) for e in self._tokenizer.encode_batch(list(captions))]

    def ids(self, captions: Sequence[str]) -> list[list[int]]:
        """The token ids of each caption; a word never seen in training is ``UNKNOWN``."""
        return [e.ids for e in self._tokenizer.encode_batch(list(captions))]

    def word(self, token: int) -> str:
        """The word of an id."""
        return str(self._tokenizer.id_to_token(token))


def pad(captions: Sequence[Sequence[int]], *, longest: int) -> Tensor:
    """Token ids in one matrix, cut at ``longest``, trimmed to the longest caption present.

    An empty caption becomes one ``UNKNOWN``, so that every row holds a token.

    Returns:
        int64 Tensor[n, l] with ``PADDING`` behind each caption.

    Example:
        >>> pad([[4, 5], []], longest=8).tolist()
        [[4, 5], [1, 0]]
    """
    rows = [list(ids[:longest]) or [UNKNOWN] for ids in captions]
    length = max((len(row) for row in rows), default=1)
    matrix = np.full((len(rows), length), PADDING, dtype=np.int64)
    for number, row in enumerate(rows):
        matrix[number, : len(row)] = row
    return torch.from_numpy(matrix)


def mask_words(
    words: Tensor, rate: float, vocabulary: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Hide a share of the words of *a copy* of the captions, 80/10/10 as BERT does.

    Every caption with a known word has at least one masked position.

    Args:
        words: token ids, Tensor[n, l]; unchanged.
        rate: share of words hidden, in (0, 1).
        vocabulary: number of token ids, for the 10 % replaced by a random word.
        rng: the source of chance.

    Returns:
        The masked copy, Tensor[n, l], and the masked positions, boolean Tensor[n, l].

    Example:
        >>> words = torch.tensor([[5, 6, 7, 0]])
        >>> copy, masked = mask_words(words, 0.5, 10, np.random.default_rng(0))
        >>> words.tolist(), bool(masked[0, 3]), bool(masked.any())
        ([[5, 6, 7, 0]], False, True)
    """
    ids = words.cpu().numpy()
    known = ids > MASK
    draw = rng.random(ids.shape)
    masked = known & (draw < rate)
    # At least one a caption: the known word with the lowest draw.
    lowest = np.where(known, draw, 2.0).argmin(axis=1)
    rows = known.any(axis=1)
    masked[np.arange(len(ids))[rows], lowest[rows]] = True
    how = rng.random(ids.shape)
    random_words = rng.integers(MASK + 1, max(vocabulary, MASK + 2), ids.shape)
    copy = np.where(masked & (how < 0.8), MASK, ids)
    copy = np.where(masked & (how >= 0.9), random_words, copy)
    return torch.from_numpy(copy).to(words.device), torch.from_numpy(masked).to(words.device)


def phrases(caption: str) -> list[str]:
    """The phrases of a caption: what stands between commas, stops, "and", "with".

    Example:
        >>> phrases("A man with a red hat, and black shoes.")
        ['A man', 'a red hat', 'black shoes']
    """
    return [part for part in _PHRASE.split(caption) if part.strip()]


def remix(
    first: str, second: str, rng: np.random.Generator, share: tuple[float, float] = (0.3, 0.8)
) -> str:
    """A random subset of the phrases of two captions of one object, in random order (our choice).

    It is the text side of "aggregate all details of one object", done in the input.

    Args:
        first: a caption.
        second: another caption of the same object (or the same one).
        rng: the source of chance.
        share: bounds of the share of phrases kept.

    Returns:
        A new caption with at least one phrase.

    Example:
        >>> remix("a red hat, a bag", "black shoes", np.random.default_rng(1))
        'a red hat, a bag'
    """
    pool = list(dict.fromkeys(phrases(first) + phrases(second)))
    if not pool:
        return first
    count = max(1, round(len(pool) * rng.uniform(*share)))
    return ", ".join(pool[i] for i in rng.permutation(len(pool))[:count])
