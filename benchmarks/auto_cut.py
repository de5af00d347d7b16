"""The automatic cut: are questions of another domain refused, and what does it cost?

    python benchmarks/auto_cut.py DATA             # DATA holds uw-objects/, flags/ and grocery/
    python benchmarks/auto_cut.py DATA --work DIR  # keeps sets, runs and stores there

Six domains: three real sets (precomputed features) and drawn figures, birds and flowers (pixels,
compact encoder). Each trains a run and indexes the images of its reported split. A store is then
asked, as ``mmref search --auto-cut`` asks, up to 300 captions of its own split and 60 of every
other domain.

- rejected: foreign captions answered "no confident match"; the aim is 90 %.
- lost: of the true images among the first 10 hits without the cut, those that the cut takes away,
  by refusing the question (refused) or by ending the list before them; the aim is 2 %.
- false kept: of the other images among the first 10, those that stay.
- absent: AUROC of the evidence, own captions against the same captions while their object's images
  are filtered out of the store (0.5: it cannot tell).
- score alone: the same aims without looking at words, as for an encoder that came pre-trained.

The form of the rule was found on runs of seed 0 and drawn sets of seed 3 of all six domains, its
threshold on flags, figures and birds. The runs reported have other seeds, the drawn sets too; the
real sets' captions are the same. The share that ends a list was 0.15 by the same three, and became
0.1 when grocery lost 2.6 % here: its figure is therefore no longer one of a domain not looked at.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings
from mmref.data.synthetic.generate import generate
from mmref.environment import describe_environment
from mmref.files import write_json
from mmref.model import MMRef
from mmref.search.cut import LEAST_EVIDENCE
from mmref.search.engine import Searcher
from mmref.search.filter_tree import Compare
from mmref.search.filters import Filter
from mmref.search.ingest.index import index_images
from mmref.search.options import Options
from mmref.search.query import Query
from mmref.training.trainer import Trainer

REAL = ("uw-objects", "flags", "grocery")
DRAWN = ("figures", "birds", "flowers")
CHOSEN_ON = ("flags", "figures", "birds")
OWN, FOREIGN, SHOWN = 300, 60, 10


def load(domain: str, given: argparse.Namespace, work: Path) -> RetrievalDataset:
    if domain in REAL:
        return RetrievalDataset.load(given.data / domain)
    folder = work / f"{domain}.data"
    if not folder.is_dir():
        drawing = SyntheticSettings(
            domain=domain, objects=given.objects, seed=100 + given.seed, image_size=(96, 96)
        )
        generate(drawing, folder, processes=1)
    return RetrievalDataset.load(folder)


def trained(domain: str, dataset: RetrievalDataset, given: argparse.Namespace, work: Path) -> MMRef:
    folder = work / domain
    if not (folder / "model.json").is_file():
        values = {"training.seed": given.seed}
        if domain in DRAWN:
            values |= {"encoder.kind": "compact", "encoder.image_height": 96,
                       "encoder.image_width": 96, "training.epochs": given.epochs}  # fmt: skip
        else:
            values |= {"encoder.kind": "features"}
        Trainer(dataset, Settings().with_values(values)).run().model.save_pretrained(folder)
    return MMRef.from_pretrained(folder)


def reported(dataset: RetrievalDataset) -> RetrievalDataset:
    return dataset.split("test" if "test" in dataset.split_names else "val")


def drawn_from(items: list, count: int, seed: int) -> list:
    rows = np.random.default_rng(seed).permutation(len(items))[:count]
    return [items[row] for row in rows]


def auroc(positive: list[float], negative: list[float]) -> float:
    a, b = np.array(positive)[:, None], np.array(negative)[None]
    return float(np.mean((a > b) + 0.5 * (a == b)))


def evidence(searcher: Searcher, text: str, options: Options) -> dict[str, float]:
    found = searcher.answer(Query.of(text), options).confidence
    if found is None:
        return {"full": 0.0, "score": 0.0}
    parts = [found.fit] if found.familiarity is None else [found.fit, found.familiarity]
    return {"full": found.evidence, "score": float(np.mean(parts))}


def lost_at(own: list[dict], least: float, key: str) -> float:
    """The share of true hits that a threshold on one kind of evidence refuses."""
    return sum(one["true"] for one in own if one[key] < least) / sum(one["true"] for one in own)


def one_domain(searcher: Searcher, own: list, foreign: dict[str, list[str]]) -> dict:
    plain, cut = Options(k=SHOWN), Options(k=SHOWN, auto_cut=True)
    rows: list[dict] = []
    absent: list[float] = []
    for query in own:
        before = searcher.answer(Query.of(query.caption), plain)
        after = searcher.answer(Query.of(query.caption), cut)
        true = {hit.id for hit in before if hit.metadata["object"] == query.object}
        kept = {hit.id for hit in after}
        rows.append(
            {
                "true": len(true),
                "true kept": len(true & kept),
                "refused": after.no_match,
                "false": len(before) - len(true),
                "false kept": len(kept - true),
                **evidence(searcher, query.caption, cut),
            }
        )
        without = replace(cut, where=Filter(Compare("object", "!=", query.object)))
        absent.append(evidence(searcher, query.caption, without)["full"])
    strange = {
        name: [evidence(searcher, text, cut) for text in texts] for name, texts in foreign.items()
    }
    everything = [one for each in strange.values() for one in each]
    true = sum(row["true"] for row in rows)
    # the largest threshold on the score alone that loses at most 2 % of the true hits
    steps = sorted({row["score"] for row in rows})
    alone = max((s for s in steps if lost_at(rows, s, "score") <= 0.02), default=0.0)
    return {
        "own captions": len(rows),
        "foreign captions": len(everything),
        "rejected": float(np.mean([one["full"] < LEAST_EVIDENCE for one in everything])),
        "rejected of": {
            name: float(np.mean([one["full"] < LEAST_EVIDENCE for one in each]))
            for name, each in strange.items()
        },
        "lost": 1 - sum(row["true kept"] for row in rows) / true,
        "lost by refusing": sum(row["true"] for row in rows if row["refused"]) / true,
        "false kept": sum(row["false kept"] for row in rows) / sum(row["false"] for row in rows),
        "foreign AUROC": auroc([row["full"] for row in rows], [o["full"] for o in everything]),
        "absent AUROC": auroc([row["full"] for row in rows], absent),
        "score alone": {
            "rejected at 0.35": float(
                np.mean([one["score"] < LEAST_EVIDENCE for one in everything])
            ),
            "rejected at 2 % lost": float(np.mean([one["score"] < alone for one in everything])),
            "foreign AUROC": auroc([r["score"] for r in rows], [o["score"] for o in everything]),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, help="a folder to keep sets, runs and stores in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--objects", type=int, default=300, help="training objects of drawn sets")
    parser.add_argument("--epochs", type=int, default=3, help="of the drawn sets' runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        sets = {domain: load(domain, given, work) for domain in (*REAL, *DRAWN)}
        questions = {name: reported(dataset).queries() for name, dataset in sets.items()}
        figures: dict[str, dict] = {}
        for domain, dataset in sets.items():
            model = trained(domain, dataset, given, work)
            store = work / f"{domain}.store"
            index_images(model, [reported(dataset)], store, run=str(work / domain))
            own = drawn_from(questions[domain], OWN, 0)
            foreign = {
                name: [query.caption for query in drawn_from(asked, FOREIGN, 1)]
                for name, asked in questions.items()
                if name != domain
            }
            with Searcher.open(store, model) as searcher:
                figures[domain] = one_domain(searcher, own, foreign)
            row = figures[domain]
            print(
                f"{domain:11s} rejected {row['rejected']:.1%}  lost {row['lost']:.1%} "
                f"(refused {row['lost by refusing']:.1%})  false kept {row['false kept']:.0%}  "
                f"absent AUROC {row['absent AUROC']:.2f}  score alone "
                f"{row['score alone']['rejected at 2 % lost']:.0%}",
                flush=True,
            )
    write_json(
        given.out / "auto_cut.json",
        {
            "environment": describe_environment(),
            "seed": given.seed,
            "threshold": LEAST_EVIDENCE,
            "chosen on": CHOSEN_ON,
            "epochs of drawn sets": given.epochs,
            "domains": figures,
        },
    )


if __name__ == "__main__":
    main()
