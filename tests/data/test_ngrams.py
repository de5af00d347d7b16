import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.data.ngrams import NGramVocabulary, UnseenWord, word_runs
from mmref.data.text import MASK, UNKNOWN, CaptionTokeniser, pad


class TestNGrams:
    def test_pairs_of_at_least_two_captions(self) -> None:
        captions = [[4, 5, 6], [4, 5], [5, 6, 5, 6], [7, 8, 7, 8]]
        vocabulary = NGramVocabulary.learn(captions, words=9)
        assert vocabulary.pairs.tolist() == [[4, 5], [5, 6]]
        assert len(vocabulary) == 11

    def test_the_most_frequent_pairs_where_there_are_too_many(self) -> None:
        captions = [[4, 5], [4, 5], [6, 7], [6, 7], [6, 7], [3, 8], [3, 8]]
        kept = NGramVocabulary.learn(captions, words=9, most=2).pairs.tolist()
        assert kept == [[3, 8], [6, 7]]

    def test_inverse_document_frequencies(self) -> None:
        captions = [[4, 5, 4], [4, 5], [4]]
        vocabulary = NGramVocabulary.learn(captions, words=6)
        expected = [math.log(4 / (1 + n)) + 1 for n in (0, 0, 0, 0, 3, 2, 2)]
        np.testing.assert_allclose(vocabulary.idf, expected, rtol=1e-6)

    def test_weights_of_a_caption_by_hand(self) -> None:
        vocabulary = NGramVocabulary.learn([[4, 5], [4, 5], [5, 6]], words=7)
        features, weights = vocabulary.features([4, 5, 4])
        by_hand = {
            4: (1 + math.log(2)) * (math.log(4 / 3) + 1),
            5: math.log(4 / 4) + 1,
            7: math.log(4 / 3) + 1,  # the pair 4 5; 5 4 was never kept
        }
        length = math.sqrt(sum(w * w for w in by_hand.values()))
        assert sorted(features) == [4, 5, 7]
        for feature, weight in zip(features, weights, strict=True):
            assert weight == pytest.approx(by_hand[feature] / length, rel=1e-5)

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6))
    def test_unit_length_and_no_special_tokens(self, captions: list[list[int]]) -> None:
        vocabulary = NGramVocabulary.learn(captions, words=10)
        for ids in captions:
            features, weights = vocabulary.features(ids)
            assert len(set(features)) == len(features) == len(weights)
            assert all(MASK < f < len(vocabulary) for f in features)
            if any(i > MASK for i in ids):
                assert math.hypot(*weights) == pytest.approx(1)
            else:
                assert features == []

    def test_nothing_to_learn_from(self) -> None:
        vocabulary = NGramVocabulary.learn([], words=3)
        assert vocabulary.pairs.shape == (0, 2)
        assert vocabulary.features([1, 1]) == ([], [])


class TestWordRuns:
    @pytest.mark.parametrize(
        ("word", "runs"),
        [
            ("red", ["#re", "red", "ed#", "#red", "red#"]),
            ("of", ["#of", "of#", "#of#"]),
            ("a", []),
            ("红", []),
            ("", []),
        ],
    )
    def test_by_hand(self, word: str, runs: list[str]) -> None:
        assert word_runs(word) == runs


class TestRuns:
    CAPTIONS = ("red hat", "red hats", "reddish coat", "coat", "红色 帽")

    def learnt(self, *captions: str, **options: float) -> tuple[CaptionTokeniser, NGramVocabulary]:
        tokeniser = CaptionTokeniser.learn(captions)
        spellings = [tokeniser.word(i) for i in range(len(tokeniser))]
        ids = tokeniser.ids(captions)
        return tokeniser, NGramVocabulary.learn(ids, len(spellings), spellings, **options)

    def test_those_of_at_least_two_captions(self) -> None:
        """By hand, not counting a run twice that stands in a caption twice."""
        _, vocabulary = self.learnt("red hat", "red red hats", "oaoaoa")
        assert vocabulary.runs == (
            "#ha", "#hat", "#re", "#red", "ed#", "hat", "red", "red#",
        )  # fmt: skip
        first = vocabulary.words + len(vocabulary.pairs)
        assert len(vocabulary) == first + 8 == len(vocabulary.idf)
        np.testing.assert_allclose(vocabulary.idf[first:], math.log(4 / 3) + 1, rtol=1e-6)

    def test_words_and_pairs_keep_their_features(self) -> None:
        tokeniser, vocabulary = self.learnt(*self.CAPTIONS)
        plain = NGramVocabulary.learn(tokeniser.ids(self.CAPTIONS), len(tokeniser))
        assert len(vocabulary.runs) > 0 == len(plain.runs)
        assert vocabulary.pairs.tolist() == plain.pairs.tolist()
        np.testing.assert_array_equal(vocabulary.idf[: len(plain)], plain.idf)

    @pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
    def test_two_vectors_side_by_side(self, weight: float) -> None:
        """Against each vector by hand: both of unit length, then joined by the weight."""
        tokeniser, vocabulary = self.learnt(*self.CAPTIONS, weight=weight)
        plain = NGramVocabulary.learn(tokeniser.ids(self.CAPTIONS), len(tokeniser))
        ids = tokeniser.ids(["red hat red hats"])[0]
        found = dict(zip(*vocabulary.features(ids), strict=True))
        words = dict(zip(*plain.features(ids), strict=True))
        for feature, value in words.items():
            assert found.pop(feature) == pytest.approx(value / math.sqrt(1 + weight), rel=1e-5)
        counts: dict[int, int] = {}
        for word in ("red", "hat", "red", "hats"):
            for run in word_runs(word):
                if run in vocabulary.runs:
                    feature = len(plain) + vocabulary.runs.index(run)
                    counts[feature] = counts.get(feature, 0) + 1
        by_hand = {f: (1 + math.log(n)) * vocabulary.idf[f] for f, n in counts.items()}
        length = math.sqrt(sum(w * w for w in by_hand.values())) / math.sqrt(weight / (1 + weight))
        assert found.keys() == by_hand.keys()
        for feature, value in by_hand.items():
            assert found[feature] == pytest.approx(value / length, rel=1e-5)

    def test_an_unseen_word_is_known_by_its_runs(self) -> None:
        tokeniser, vocabulary = self.learnt(*self.CAPTIONS)
        captions = ["hatred", "zzz", "red hatred", "red", "红 绿"]
        ids = vocabulary.ids(tokeniser, captions)
        assert ids == tokeniser.ids(captions)  # for all who count tokens
        assert ids[0] == [UNKNOWN]
        features, weights = vocabulary.features(ids[0])
        assert {vocabulary.runs[f - len(vocabulary) + len(vocabulary.runs)] for f in features} == {
            "#ha", "hat", "red", "#hat", "ed#", "red#",
        }  # fmt: skip
        assert math.hypot(*weights) == pytest.approx(1)
        assert vocabulary.features(ids[1]) == ([], [])
        assert vocabulary.features(ids[2]) != vocabulary.features(ids[3])
        # Words of a script without spaces have no runs, so an unseen one has no feature.
        assert vocabulary.features(ids[4]) == ([ids[4][0]], [1.0])

    @pytest.mark.parametrize("weight", [0.0, 1.0])
    def test_none_where_not_wanted_or_not_there(self, weight: float) -> None:
        captions = ("红色 帽", "红 帽") if weight else self.CAPTIONS
        tokeniser, vocabulary = self.learnt(*captions, weight=weight)
        plain = NGramVocabulary.learn(tokeniser.ids(captions), len(tokeniser))
        assert vocabulary.runs == vocabulary.spellings == ()
        for ids in tokeniser.ids(captions):
            assert vocabulary.features(ids) == plain.features(ids)

    def test_json_keeps_all(self) -> None:
        tokeniser, vocabulary = self.learnt(*self.CAPTIONS, weight=0.5)
        again = NGramVocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())), tokeniser)
        assert again.runs == vocabulary.runs
        assert again.weight == 0.5
        assert again.spellings == vocabulary.spellings
        for ids in vocabulary.ids(tokeniser, [*self.CAPTIONS, "hatred reds", ""]):
            assert again.features(ids) == vocabulary.features(ids)

    def test_what_was_stored_before_there_were_runs_is_read(self) -> None:
        tokeniser = CaptionTokeniser.learn(self.CAPTIONS)
        plain = NGramVocabulary.learn(tokeniser.ids(self.CAPTIONS), len(tokeniser))
        stored = {k: v for k, v in plain.to_json().items() if k in ("words", "pairs", "idf")}
        again = NGramVocabulary.from_json(stored, tokeniser)
        assert again.runs == ()
        ids = again.ids(tokeniser, ["red hats", "hatred"])
        assert again.features(ids[0]) == plain.features(ids[0])
        assert again.features(ids[1]) == ([], [])

    def test_a_token_that_remembers_is_still_that_token(self) -> None:
        word = pickle.loads(pickle.dumps(UnseenWord.of([7, 8])))
        assert word.runs == (7, 8)
        assert pad([[4, word]], longest=4).tolist() == [[4, UNKNOWN]]
