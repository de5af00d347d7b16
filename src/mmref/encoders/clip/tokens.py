"""Captions -> token ids with the checkpoint's own tokeniser; cutting, splitting, padding.

The tokeniser is the checkpoint's ``tokenizer.json``, run by the ``tokenizers`` library, and is kept
with the run. Before it, captions are made as they were in pre-training: SigLIP lower-cases them and
drops punctuation, SigLIP 2 lower-cases them, CLIP's tokeniser does all by itself.
"""

import re
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from mmref.encoders.clip.checkpoint import Family, read_json
from mmref.errors import ModelError

TOKENIZER_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
WINDOW = -1  # in the ids of one caption: here the next window begins
_SENTENCE = re.compile(r"(?<=[.!?;\u3002\uff01\uff1f])\s*")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

LongCaptions = Literal["cut", "split"]


class TokenBatch(NamedTuple):
    """Captions as tensors.

    Attributes:
        ids: token ids of all windows, padded, int64 Tensor[w, l].
        owners: the caption of each window, int64 Tensor[w]; None where each has one window.
        captions: n, how many.
        lengths: tokens of each row where a shorter row may be trimmed; else empty.
    """

    ids: Tensor
    owners: Tensor | None
    captions: int
    lengths: tuple[int, ...] = ()

    def to(self, device: Any) -> "TokenBatch":
        """The same on another device."""
        owners = None if self.owners is None else self.owners.to(device)
        return TokenBatch(self.ids.to(device), owners, self.captions, self.lengths)

    def groups(self, least: int) -> list[list[int]]:
        """Rows of about one length together, for each group to be trimmed by itself.

        Args:
            least: tokens, padding included, that a group is worth: many small ones cost more
                than they save.

        Returns:
            Row numbers, the shortest rows first; one group where lengths say nothing.

        Example:
            >>> batch = TokenBatch(torch.zeros(4, 9), None, 4, (9, 3, 2, 9))
            >>> batch.groups(6), batch.groups(99)
            ([[2, 1], [0], [3]], [[2, 1, 0, 3]])
        """
        if not self.lengths:
            return [list(range(len(self.ids)))]
        order = sorted(range(len(self.lengths)), key=self.lengths.__getitem__)
        found: list[list[int]] = []
        start = 0
        for stop in range(1, len(order) + 1):
            if (stop - start) * self.lengths[order[stop - 1]] >= least:
                found.append(order[start:stop])
                start = stop
        if start < len(order):  # what is left is too little for a group of its own
            found.append([*(found.pop() if found else []), *order[start:]])
        return found


@dataclass(frozen=True)
class TokenRules:
    """How captions become rows of ids.

    Attributes:
        length: most tokens of a row, the special ones included (CLIP 77, SigLIP 64).
        prepare: ``plain``, ``lower``, or ``bare`` (lower case, no punctuation).
        first: special ids before the caption's.
        last: special ids behind them.
        padding: the id behind a shorter row, or before it.
        padding_left: whether it stands before.
        trimmed: whether a batch is as long as its longest row (exact for CLIP, whose mask is
            causal and whose vector is read at the caption's end); else always ``length``: SigLIP
            was trained so, without attention mask, and its vector is read at the last place.
    """

    length: int
    prepare: Literal["plain", "lower", "bare"]
    first: tuple[int, ...]
    last: tuple[int, ...]
    padding: int
    padding_left: bool
    trimmed: bool


class CheckpointTokeniser:
    """A checkpoint's tokeniser.

    Args:
        text: its ``tokenizer.json``.
        rules: how rows are made.

    Raises:
        ModelError: the text is no tokeniser.
    """

    def __init__(self, text: str, rules: TokenRules) -> None:
        self.text, self.rules = text, rules
        self._tokenizer = _parse(text)

    @classmethod
    def read(cls, folder: Path, family: Family, config: dict[str, Any]) -> "CheckpointTokeniser":
        """From a checkpoint's folder.

        Args:
            folder: with ``tokenizer.json`` (for CLIP ``vocab.json`` and ``merges.txt`` will do).
            family: of the checkpoint.
            config: its ``config.json``, all values filled in.

        Raises:
            ModelError: the tokeniser is missing, damaged, or does not fit the model.
        """
        text = _text_of(folder, family)
        tokenizer = _parse(text, folder)
        facts = read_json(folder / _CONFIG_FILE) if (folder / _CONFIG_FILE).is_file() else {}
        text_config = config["text_config"]
        plain = list(tokenizer.encode("a", add_special_tokens=False).ids)
        full = list(tokenizer.encode("a").ids)
        start = next((k for k in range(len(full)) if full[k : k + len(plain)] == plain), 0)
        first, last = tuple(full[:start]), tuple(full[start + len(plain) :])
        padding = _padding(tokenizer, facts, text_config)
        rules = TokenRules(
            length=int(text_config["max_position_embeddings"]),
            prepare=_prepare(family, facts),
            first=first,
            last=last,
            padding=padding,
            padding_left=facts.get("padding_side") == "left",
            trimmed=family == "clip",
        )
        _check(folder, family, tokenizer, rules, text_config)
        return cls(text, rules)

    def to_json(self) -> dict[str, Any]:
        """The rules (JSON); :attr:`text` is the rest."""
        return asdict(self.rules)

    @classmethod
    def from_json(cls, text: str, rules: dict[str, Any]) -> "CheckpointTokeniser":
        """Rebuild from :attr:`text` and :meth:`to_json`."""
        lists = {name: tuple(rules[name]) for name in ("first", "last")}
        return cls(text, TokenRules(**{**rules, **lists}))

    @property
    def room(self) -> int:
        """Most tokens of a caption in one row."""
        return self.rules.length - len(self.rules.first) - len(self.rules.last)

    def too_long(self, captions: Sequence[str]) -> int:
        """How many captions have more tokens than a row has room for."""
        return sum(len(ids) > self.room for ids in self._plain(captions))

    def ids(self, captions: Sequence[str], long_captions: LongCaptions) -> list[list[int]]:
        """Token ids of each caption, special ones included.

        Args:
            captions: any strings.
            long_captions: ``cut`` behind the last place, or ``split`` into windows of whole
                sentences, one after another with ``WINDOW`` between them.
        """
        rows = []
        for caption, ids in zip(captions, self._plain(captions), strict=True):
            if len(ids) <= self.room or long_captions == "cut":
                rows.append(self._row(ids))
                continue
            windows = [self._row(window) for window in self._windows(caption)]
            rows.append(windows[0] + [i for window in windows[1:] for i in (WINDOW, *window)])
        return rows

    def batch(self, captions: Sequence[Sequence[int]]) -> TokenBatch:
        """Ids of :meth:`ids` -> tensors, trimmed to the longest row where that is exact."""
        rows: list[list[int]] = []
        owners: list[int] = []
        for number, ids in enumerate(captions):
            start = 0
            marks = [k for k, token in enumerate(ids) if token == WINDOW]
            for stop in [*marks, len(ids)]:
                rows.append(list(ids[start:stop]))
                owners.append(number)
                start = stop + 1
        rules = self.rules
        longest = max(map(len, rows), default=1) if rules.trimmed else rules.length
        matrix = torch.full((len(rows), longest), rules.padding, dtype=torch.int64)
        for number, row in enumerate(rows):
            place = slice(longest - len(row), None) if rules.padding_left else slice(len(row))
            matrix[number, place] = torch.tensor(row, dtype=torch.int64)
        single = len(rows) == len(captions)
        lengths = tuple(map(len, rows)) if rules.trimmed and not rules.padding_left else ()
        return TokenBatch(matrix, None if single else torch.tensor(owners), len(captions), lengths)

    def _row(self, ids: Sequence[int]) -> list[int]:
        return [*self.rules.first, *ids[: self.room], *self.rules.last]

    def _plain(self, captions: Sequence[str]) -> list[list[int]]:
        texts = [prepared(caption, self.rules.prepare) for caption in captions]
        return [e.ids for e in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _windows(self, caption: str) -> list[list[int]]:
        """Ids of whole sentences, as many as fit into each window; a longer sentence is cut up."""
        windows: list[list[int]] = []
        sentences = [part for part in _SENTENCE.split(caption) if part.strip()]
        for ids in self._plain(sentences):
            if windows and len(windows[-1]) + len(ids) <= self.room:
                windows[-1] += ids
                continue
            windows += [ids[k : k + self.room] for k in range(0, len(ids), self.room)]
        return windows or [[]]


def prepared(caption: str, how: str) -> str:
    """A caption as the checkpoint's pre-training made it before its tokeniser.

    Example:
        >>> prepared(" A red-brown  Hat. ", "bare"), prepared("A Hat.", "lower")
        ('a redbrown hat', 'a hat.')
    """
    if how == "plain":
        return caption
    lower = caption.lower()
    return " ".join(lower.translate(_PUNCTUATION).split()) if how == "bare" else lower


def _parse(text: str, folder: Path | None = None) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        where = f"{folder}/{TOKENIZER_FILE}" if folder else TOKENIZER_FILE
        reason = " ".join(str(error).split())[:80]
        raise ModelError(f"{where} is damaged ({reason}): copy it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a caption is text like any other
    return tokenizer


def _text_of(folder: Path, family: Family) -> str:
    file = folder / TOKENIZER_FILE
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{file} cannot be read ({error}): copy it again") from error
    if family == "clip" and all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        return _byte_pairs(folder)
    raise ModelError(
        f"{folder} has no tokeniser ({TOKENIZER_FILE}): copy it from where the checkpoint is from"
    )


def _byte_pairs(folder: Path) -> str:
    """CLIP's tokeniser from its vocabulary and merges, as its older checkpoints have them."""
    from transformers import CLIPTokenizer

    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
        merges: Any = pairs
        made = CLIPTokenizer(vocab=read_json(folder / "vocab.json"), merges=merges)
    except ModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:80]
        raise ModelError(f"{folder}: vocab.json or merges.txt is damaged ({reason})") from error
    return str(made.backend_tokenizer.to_str())


def _prepare(family: Family, facts: dict[str, Any]) -> Literal["plain", "lower", "bare"]:
    if family == "clip":
        return "plain"
    # SigLIP's tokeniser canonicalises; SigLIP 2 has Gemma's, trained on lower-cased captions.
    return "bare" if facts.get("tokenizer_class") == "SiglipTokenizer" else "lower"


def _padding(tokenizer: Tokenizer, facts: dict[str, Any], config: dict[str, Any]) -> int:
    named = facts.get("pad_token")
    named = named.get("content") if isinstance(named, dict) else named
    found = tokenizer.token_to_id(named) if isinstance(named, str) else None
    if found is None:
        found = config.get("pad_token_id")
    return int(found or 0)


def _check(
    folder: Path,
    family: Family,
    tokenizer: Tokenizer,
    rules: TokenRules,
    config: dict[str, Any],
) -> None:
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= int(config["vocab_size"]):
        raise ModelError(
            f"the tokeniser of {folder} has ids up to {largest}, but its text tower knows "
            f"{config['vocab_size']}: they are of two checkpoints"
        )
    end = config.get("eos_token_id")
    # CLIP reads its vector at the end token; configurations of old say 2 and mean the largest id.
    if family == "clip" and (not rules.last or (end != 2 and end not in rules.last)):
        raise ModelError(
            f"the tokeniser of {folder} does not end captions with token {end}, at which the text "
            "tower reads its vector: they are of two checkpoints"
        )
