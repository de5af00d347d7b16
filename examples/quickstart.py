"""Load, compare, evaluate and search what ``mmref demo`` wrote; run it beside the folder demo."""

from pathlib import Path

from mmref import MMRef, RetrievalDataset, Searcher, evaluate

demo = Path("demo")
model = MMRef.from_pretrained(demo / "mmref")
test = RetrievalDataset.load(demo / "data").split("test")

texts = model.encode_text(["a man in a red coat", "a woman with a blue bag"])
images = model.encode_image(test.image_paths[:3])
scores = model.similarity(texts, images, refine=True)
print(f"{len(texts)} captions x {len(images)} images: scores {list(scores.shape)}")

report = evaluate(model, test, split="test")
print(f"R@1 {report.t2i['R@1']:.1f}, mAP {report.t2i['mAP']:.1f}, chance {report.chance:.2f}")

with Searcher.open(str(demo / "test.store")) as searcher:
    for hit in searcher.search(test.captions[0][0], k=3):
        print(hit.rank, f"{hit.score:.3f}", Path(hit.path).name)
