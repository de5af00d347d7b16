import numpy as np
import pytest

from mmref.search.cut import LEAST_EVIDENCE, Noise, known_share, nearest_mean, nonsense
from mmref.search.ingest.index import index_images
from mmref.search.noise import measured_noise, sampled
from mmref.search.stores.base import open_store

from .fakes import ColourModel, pictures

NOISE = Noise(floor=0.1, peak=0.3, near_floor=0.0, near_peak=0.5)


def test_evidence_is_the_mean_of_fit_and_familiarity_sharpened_by_known_words():
    found = NOISE.confidence(0.5, 0.75, known=0.5)
    assert (found.fit, found.familiarity) == (2.0, 1.5)
    assert found.evidence == pytest.approx(1.75 / 16, abs=1e-4)
    assert not found.confident
    assert NOISE.confidence(0.5, 0.75, known=1.0).confident
    assert NOISE.confidence(0.5, None, known=1.0).familiarity is None
    assert NOISE.confidence(0.1, 0.0, known=1.0).evidence < LEAST_EVIDENCE


def test_the_list_ends_above_the_floor():
    assert NOISE.least(1.1) == pytest.approx(0.1 + 0.1)
    assert NOISE.least(0.0) == 0.1


def test_noise_without_spread_says_nothing():
    flat = Noise(0.2, 0.2, None, None)
    assert flat.confidence(0.9, None, 1.0).fit == 1.0
    assert flat.confidence(0.9, None, 1.0).confident


def test_nonsense_is_always_the_same_and_has_words_enough():
    words = [f"word{chr(97 + n)}" for n in range(20)]
    assert nonsense(words) == nonsense(words[::-1])
    assert all(len(sentence.split()) == 8 for sentence in nonsense(words))
    assert len(set(nonsense([]))) == 64
    assert all(word in words for word in nonsense([*words, "12", "[pad]"])[0].split())


def test_known_words_are_counted_with_repetition():
    assert known_share([], []) == 1.0
    assert known_share(["Red, red, BANDERSNATCH!"], ["bandersnatch"]) == pytest.approx(2 / 3)
    assert nearest_mean(np.array([2.0, 1.0])) == 1.5


def test_noise_of_a_store_is_measured_and_stays(tmp_path, monkeypatch):
    model = ColourModel()
    pictures(tmp_path / "pics", 50)
    index_images(model, [tmp_path / "pics"], tmp_path / "s")
    words = ["red", "green", "blue", "white", "black", "yellow", "a", "card"]
    monkeypatch.setattr("mmref.search.noise.vocabulary", lambda _: words)
    with open_store(str(tmp_path / "s")) as store, store.view() as view:
        assert sampled(view, 400) == list(range(1, 51))
        assert len(sampled(view, 7)) <= 7
        noise = measured_noise(view, model, model.refiner)
        assert noise == measured_noise(view, model, model.refiner)
        assert noise.floor < noise.peak
        assert noise.near_floor is None
        plain = measured_noise(view, model, None)
        texts = model.encode_text(nonsense(words)).numpy()
        cosines = texts @ view.vectors(range(1, 51)).T
        assert plain.floor == pytest.approx(np.median(cosines), abs=1e-5)
        assert plain.peak == pytest.approx(np.median(cosines.max(axis=1)), abs=1e-5)


class _Gaps:
    """A view of ``count`` items with wide gaps between their ids."""

    def __init__(self, count, step):
        self.ids, self.known = range(1, count * step, step), set(range(1, count * step, step))

    def __len__(self):
        return len(self.ids)

    def items(self, after=0):
        return (_Item(n) for n in self.ids if n > after)

    def get(self, wanted):
        return [_Item(n) for n in wanted if n in self.known]


class _Item:
    def __init__(self, number):
        self.id = number


@pytest.mark.parametrize("step", [1, 2, 1000])
def test_a_sample_of_a_large_store_is_spread(step):
    found = sampled(_Gaps(5000, step), 400)
    assert 200 <= len(found) <= 400
    assert len(set(found)) == len(found)
    if step < 1000:
        assert np.mean(found) == pytest.approx(2500 * step, rel=0.15)
