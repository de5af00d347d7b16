"""A small ablation whose order must hold: the full method above its base on drawn figures.

    python benchmarks/ordering.py [--out DIR] [--set KEY=VALUE ...]

It is the components table of docs/results.md at a size for every change: 1,200 training objects,
two epochs, one seed, both methods with the same steps. It fails unless the paired 95 % interval of
full - base in mAP lies above 15 % of the base's (two trainings of one method differ by chance,
which an interval over objects does not see). With ``--set references.caption_epochs=0 --set
references.guidance_weight=0`` references teach the encoders nothing: it fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DRAWN = (
    "objects=1200,images=2,captions=4,val_objects=40,test_objects=80,"
    "omit=0.5,contradict=0.15,image_size=64x32"
)
VALUES = (
    "encoder.image_height=64",
    "encoder.image_width=32",
    "encoder.block=0",
    "training.epochs=2",
    "references.decoder_epochs=0",
)

LEAST = 0.15  # of the base's mAP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder to keep, to go on with")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="values")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder) / "ablation"
        command = [sys.executable, "-m", "mmref", "ablate", "--preset", "components"]
        command += ["--only", "base,full", "--domain", "figures", "--synth", DRAWN]
        command += ["--seeds", "1", "--no-plot", "--out", str(out)]
        for value in (*VALUES, *given.values):
            command += ["--set", value]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    rows = found["rows"]
    mean, low, high = (rows["full"]["to_base"][key] for key in ("difference", "low", "high"))
    least = LEAST * rows["base"]["metrics"]["mAP"]
    print(f"full - base: {mean:+.2f} mAP (95 % {low:+.2f} to {high:+.2f}), needed {least:+.2f}")
    if not low > least:
        sys.exit("the full method is not clearly above its base")


if __name__ == "__main__":
    main()
