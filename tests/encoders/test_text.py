import pytest
import torch

from mmref.data.ngrams import NGramVocabulary
from mmref.data.text import PADDING
from mmref.encoders.text import GatedWords, NGramProjection, WordTransformer, text_batch

from .made import encode, made

NGRAMS = NGramVocabulary.learn([[4, 5], [4, 5, 6], [6, 7]], words=8)


class TestTextBatch:
    def test_features_of_each_caption_one_after_another(self) -> None:
        captions = [[4, 5], [], [6, 1, 6]]
        batch = text_batch(captions, NGRAMS, longest=8)
        rows = [NGRAMS.features(ids) for ids in captions]
        assert batch.features.tolist() == [f for features, _ in rows for f in features]
        assert batch.weights.tolist() == pytest.approx([w for _, ws in rows for w in ws])
        assert batch.offsets.tolist() == [0, 3, 3]
        assert batch.words.tolist() == [[4, 5, 0], [1, 0, 0], [6, 1, 6]]
        assert [part.dtype for part in batch] == [
            torch.int64, torch.float32, torch.int64, torch.int64,
        ]  # fmt: skip

    def test_long_captions_are_cut_for_the_transformer_alone(self) -> None:
        batch = text_batch([[4, 5, 6, 7]], NGRAMS, longest=2)
        assert batch.words.tolist() == [[4, 5]]
        assert {4, 5, 6, 7} <= set(batch.features.tolist())


class TestNGramProjection:
    def test_sum_of_weighted_rows(self) -> None:
        projection = NGramProjection(len(NGRAMS), 3)
        captions = [[4, 5], [], [6, 6, 7]]
        found = projection(text_batch(captions, NGRAMS, longest=8))
        for row, ids in enumerate(captions):
            expected = torch.zeros(3)
            for feature, weight in zip(*NGRAMS.features(ids), strict=True):
                expected = expected + weight * projection.bag.weight[feature]
            assert torch.allclose(found[row], expected, atol=1e-6)


class TestGatedWords:
    IDF = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 0.5, 3.0, 1.5])

    def net(self, window: int = 2) -> GatedWords:
        torch.manual_seed(0)
        return GatedWords(self.IDF, 5, window=window)

    def naive(self, net: GatedWords, ids: list[int]) -> torch.Tensor:
        """Word by word, pair by pair."""
        hidden = [net.embedding.weight[i] * net.idf[i] * (i > 2) for i in ids]
        total = torch.zeros(5)
        for first, own in enumerate(hidden):
            total = total + own
            for step, layer in enumerate(net.behind, 1):
                if first + step < len(hidden):
                    total = total + net.gate(own) * layer(hidden[first + step])
        return total

    def test_equals_a_naive_loop(self) -> None:
        net = self.net()
        for ids in ([3, 4, 5, 6, 7], [4], [4, 1, 6], [2, 7]):
            found = net(torch.tensor([ids]))[0]
            assert torch.allclose(found, self.naive(net, ids), atol=1e-5), ids

    def test_padding_and_unknown_words_add_nothing(self) -> None:
        net = self.net()
        alone, padded = net(torch.tensor([[4, 6]])), net(torch.tensor([[4, 6, 0, 0]]))
        assert torch.allclose(alone, padded, atol=1e-6)
        assert net(torch.tensor([[1, 0, 2]])).abs().max() == 0

    def test_order_matters_within_the_window_alone(self) -> None:
        net = self.net(window=1)

        def said(ids: list[int]) -> torch.Tensor:
            return net(torch.tensor([ids]))[0]

        assert not torch.allclose(said([4, 6]), said([6, 4]), atol=1e-4)
        # Words that the unknown one keeps apart are not neighbours.
        assert torch.allclose(said([4, 1, 6]), said([6, 1, 4]), atol=1e-6)

    @pytest.mark.parametrize("distance", [1, 2, 3, 4])
    @pytest.mark.parametrize("window", [1, 3])
    def test_words_further_apart_than_the_window_only_add_up(
        self, distance: int, window: int
    ) -> None:
        """What two words say together is what each says, unless they are neighbours."""
        net = self.net(window)

        def said(first: int, last: int) -> torch.Tensor:
            return net(torch.tensor([[first, *[4] * (distance - 1), last]]))[0]

        together = said(3, 6) - said(5, 6) - said(3, 7) + said(5, 7)
        assert (together.abs().max() > 1e-3) == (distance <= window)

    def test_a_colour_is_bound_to_its_thing(self) -> None:
        """A bag of words cannot tell these two apart."""
        net = self.net()
        first, second = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[5, 4, 3, 6]])
        assert not torch.allclose(net(first), net(second), atol=1e-4)


class TestWordTransformer:
    def words(self) -> torch.Tensor:
        return torch.tensor([[4, 5, 6], [7, PADDING, PADDING]])

    def net(self) -> WordTransformer:
        torch.manual_seed(0)
        net = WordTransformer(8, 5, depth=2, width=32, length=6, dropout=0.1).eval()
        torch.nn.init.normal_(net.out.weight)
        return net

    def test_starts_silent(self) -> None:
        net = WordTransformer(8, 5, depth=1, width=32, length=6, dropout=0.1)
        assert net(self.words()).abs().max() == 0

    def test_padding_changes_nothing(self) -> None:
        net = self.net()
        together = net(self.words())
        assert torch.allclose(net(torch.tensor([[7]]))[0], together[1], atol=1e-5)

    def test_word_order_matters(self) -> None:
        net = self.net()
        forth, back = net(torch.tensor([[4, 5, 6]])), net(torch.tensor([[6, 5, 4]]))
        assert (forth - back).abs().max() > 1e-3

    def test_order_within_an_encoder(self) -> None:
        """Beyond the window of gated words only the transformer tells two orders apart."""
        apart = " zzz" * 5  # unknown words
        forth, back = f"hat{apart} blue", f"blue{apart} hat"
        plain, words = made("features"), made("features", text_depth=1)
        assert torch.allclose(encode(plain, forth), encode(plain, back), atol=1e-6)
        assert not torch.allclose(encode(words, forth), encode(words, back), atol=1e-4)

    def test_any_width_that_the_settings_allow(self) -> None:
        WordTransformer(8, 5, depth=1, width=100, length=6, dropout=0.1)
