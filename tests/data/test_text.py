import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.data.text import (
    MASK,
    PADDING,
    SPECIAL,
    UNKNOWN,
    CaptionTokeniser,
    mask_words,
    pad,
    phrases,
    remix,
)


def learnt(*captions: str, **options: int) -> CaptionTokeniser:
    return CaptionTokeniser.learn(captions, **options)


class TestTokeniser:
    @pytest.mark.parametrize(
        ("caption", "words"),
        [
            ("A Red, red HAT!", ["a", "red", "red", "hat"]),
            ("t-shirt and 2 bags", ["t", "shirt", "and", "2", "bags"]),
            ("snake_case", ["snake", "case"]),
            ("Ein grüner Straßenmantel", ["ein", "grüner", "straßenmantel"]),
            ("\uff32\uff25\uff24 \ufb01ne", ["red", "fine"]),  # full-width letters, a ligature
            ("cafe\u0301", ["caf\u00e9"]),  # composed and decomposed are one word
            ("Красная ШАПКА", ["красная", "шапка"]),
            ("빨간 모자", ["빨간", "모자"]),
            ("红色的帽子", ["红", "色", "的", "帽", "子"]),
            ("赤いぼうし", ["赤", "い", "ぼ", "う", "し"]),
            ("", []),
            (" \t\n", []),
            ("?!... — 🙂", []),
        ],
    )
    def test_words(self, caption: str, words: list[str]) -> None:
        tokeniser = learnt("something else")
        assert tokeniser.words([caption]) == [words]

    @pytest.mark.parametrize(
        ("caption", "words"),
        [
            ("穿T恤和帽子", ["穿", "t", "恤", "和", "帽", "子"]),
            ("3个人", ["3", "个", "人"]),
        ],
    )
    def test_characters_count_one_by_one_beside_letters(self, caption, words) -> None:
        assert learnt("x").words([caption]) == [words]

    def test_ids_are_those_of_the_words(self) -> None:
        tokeniser = learnt("a red hat", "红色 a")
        captions = ["A hat, red!", "红 a zebra", "", "..."]
        found = tokeniser.ids(captions)
        for ids, words in zip(found, tokeniser.words(captions), strict=True):
            assert ids == [tokeniser.vocabulary.get(word, UNKNOWN) for word in words]
            assert [tokeniser.word(i) for i in ids if i != UNKNOWN] == [
                word for word in words if word in tokeniser.vocabulary
            ]
        assert found[1][2] == UNKNOWN
        assert found[2] == found[3] == []

    def test_special_tokens_come_first(self) -> None:
        tokeniser = learnt("b a")
        assert [tokeniser.word(i) for i in range(len(tokeniser))] == [*SPECIAL, "a", "b"]
        assert SPECIAL.index("[PAD]") == PADDING
        assert SPECIAL.index("[MASK]") == MASK

    def test_frequent_words_first_then_by_alphabet(self) -> None:
        tokeniser = learnt("hat bag", "hat coat", "hat bag shoe", "zip")
        assert [tokeniser.word(i) for i in range(3, len(tokeniser))] == [
            "hat", "bag", "coat", "shoe", "zip",
        ]  # fmt: skip
        small = learnt("hat bag", "hat coat", "hat bag shoe", size=5)
        assert set(small.vocabulary) == {*SPECIAL, "hat", "bag"}

    def test_order_and_repeats_of_captions_do_not_matter(self) -> None:
        captions = ["hat bag", "red hat", "blue bag and hat"]
        first = learnt(*captions)
        again = learnt(*captions[::-1], *captions[1:], *5 * ["red hat"])
        assert first.vocabulary == again.vocabulary
        assert first.to_json() == again.to_json()

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(st.lists(st.text(max_size=30), max_size=5), st.text(max_size=40))
    def test_json_keeps_all_for_any_text(self, captions: list[str], asked: str) -> None:
        tokeniser = CaptionTokeniser.learn(captions)
        again = CaptionTokeniser.from_json(tokeniser.to_json())
        assert again.ids([asked, *captions]) == tokeniser.ids([asked, *captions])
        assert again.words([asked]) == tokeniser.words([asked])
        assert len(again) == len(tokeniser) >= 3
        for ids in tokeniser.ids(captions):
            assert all(i < len(tokeniser) for i in ids)

    @pytest.mark.parametrize("caption", ["[PAD]", "a [MASK] hat"])
    def test_names_of_special_tokens_are_plain_words(self, caption: str) -> None:
        ids = learnt("a hat").ids([caption])[0]
        assert PADDING not in ids
        assert MASK not in ids


class TestPad:
    def test_cut_trimmed_and_never_empty(self) -> None:
        assert pad([[4, 5, 6, 7], [], [8]], longest=3).tolist() == [
            [4, 5, 6], [UNKNOWN, PADDING, PADDING], [8, PADDING, PADDING],
        ]  # fmt: skip
        assert pad([], longest=3).shape == (0, 1)
        assert pad([[4]], longest=3).dtype == torch.int64

    def test_captions_stay_as_they_are(self) -> None:
        captions = [[4, 5, 6, 7], []]
        pad(captions, longest=2)
        assert captions == [[4, 5, 6, 7], []]


class TestMaskWords:
    def draw(self, count: int = 4000, rate: float = 0.3, vocabulary: int = 50, seed: int = 0):
        chance = np.random.default_rng(seed)
        words = torch.from_numpy(chance.integers(3, vocabulary, (count, 10)))
        words[:, 8:] = PADDING
        words[: count // 2, 0] = UNKNOWN
        copy, masked = mask_words(words, rate, vocabulary, np.random.default_rng(seed + 1))
        return words, copy, masked

    @settings(deadline=None, max_examples=80, derandomize=True)
    @given(
        st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=5),
        st.floats(0.01, 0.99),
        st.integers(0, 999),
    )
    def test_on_a_copy_at_known_words_with_one_at_least(self, captions, rate, seed) -> None:
        words = pad(captions, longest=6)
        before = words.clone()
        copy, masked = mask_words(words, rate, 10, np.random.default_rng(seed))
        assert torch.equal(words, before)
        assert copy.data_ptr() != words.data_ptr()
        assert torch.equal(copy[~masked], words[~masked])
        assert not masked[words <= MASK].any()
        assert torch.equal(masked.any(dim=1), (words > MASK).any(dim=1))
        assert (copy[masked] >= MASK).all()
        assert (copy[masked] < 10).all()

    def test_share_of_masked_words(self) -> None:
        words, _, masked = self.draw()
        share = masked[words > MASK].float().mean().item()
        assert share == pytest.approx(0.3, abs=0.04)  # a little more: one at least

    def test_80_10_10(self) -> None:
        words, copy, masked = self.draw(count=8000, rate=0.5, vocabulary=1003)
        hidden = (copy == MASK)[masked].float().mean().item()
        kept = (copy == words)[masked].float().mean().item()
        assert masked.sum() > 20_000
        assert hidden == pytest.approx(0.8, abs=0.015)
        assert kept == pytest.approx(0.1, abs=0.015)
        other = copy[masked & (copy != MASK) & (copy != words)]
        assert len(other) / int(masked.sum()) == pytest.approx(0.1, abs=0.015)
        # Random words are of the whole vocabulary, special tokens left out.
        assert other.min() == 3
        assert other.max() > 990
        assert len(set(other.tolist())) > 700

    def test_every_place_is_as_likely(self) -> None:
        _, _, masked = self.draw(rate=0.2)
        places = masked[2000:, :8].float().mean(dim=0)
        assert (places.max() - places.min()).item() < 0.06

    def test_a_rare_mask_still_hides_one_word_anywhere(self) -> None:
        _, _, masked = self.draw(rate=1e-9)
        assert masked.sum(dim=1).unique().tolist() == [1]
        assert masked[2000:, :8].float().mean(dim=0).min() > 0.08

    def test_the_generator_decides(self) -> None:
        first, again, other = self.draw(seed=1), self.draw(seed=1), self.draw(seed=2)
        assert torch.equal(first[1], again[1])
        assert not torch.equal(first[2], other[2])

    def test_captions_of_unknown_words_are_left_alone(self) -> None:
        words = torch.tensor([[UNKNOWN, PADDING], [MASK, UNKNOWN]])
        copy, masked = mask_words(words, 0.9, 3, np.random.default_rng(0))
        assert torch.equal(copy, words)
        assert not masked.any()


class TestPhrases:
    @pytest.mark.parametrize(
        ("caption", "parts"),
        [
            ("A man wearing a hat; black shoes.", ["A man", "a hat", "black shoes"]),
            ("a sandy bandana", ["a sandy bandana"]),  # "and" within words
            ("red AND blue With green", ["red", "blue", "green"]),
            ("one, , and two", ["one", "two"]),
            ("and", []),
            ("", []),
            ("...", []),
        ],
    )
    def test_what_stands_between(self, caption: str, parts: list[str]) -> None:
        assert phrases(caption) == parts


class TestRemix:
    FIRST, SECOND = "a red hat, black shoes and a bag", "a dark hat with black shoes; blue jeans"

    def test_phrases_stay_whole_and_come_from_both(self) -> None:
        pool = {"a red hat", "black shoes", "a bag", "a dark hat", "blue jeans"}
        seen = set()
        for seed in range(60):
            mixed = remix(self.FIRST, self.SECOND, np.random.default_rng(seed)).split(", ")
            assert set(mixed) <= pool
            assert len(set(mixed)) == len(mixed)  # what both say is said once
            assert 1 <= len(mixed) <= 4
            seen |= set(mixed)
        assert seen == pool

    @pytest.mark.parametrize(("share", "count"), [((0.0, 0.0), 1), ((0.6, 0.6), 3), ((1, 1), 5)])
    def test_share_of_phrases(self, share: tuple[float, float], count: int) -> None:
        mixed = remix(self.FIRST, self.SECOND, np.random.default_rng(0), share)
        assert len(mixed.split(", ")) == count

    def test_orders_differ(self) -> None:
        found = {remix("a, b, c", "d", np.random.default_rng(s), (1, 1)) for s in range(40)}
        assert len(found) > 10

    def test_without_phrases_the_caption_stays(self) -> None:
        assert remix("and", "...", np.random.default_rng(0)) == "and"
        assert remix("", "", np.random.default_rng(0)) == ""

    def test_the_generator_decides(self) -> None:
        first, again = (remix(self.FIRST, self.SECOND, np.random.default_rng(3)) for _ in "ab")
        assert first == again

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 99))
    def test_any_text_is_taken(self, first: str, second: str, seed: int) -> None:
        mixed = remix(first, second, np.random.default_rng(seed))
        pool = phrases(first) + phrases(second)
        assert mixed == first if not pool else all(p in pool for p in phrases(mixed))
        assert mixed or not pool
