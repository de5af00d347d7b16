"""The model card of a run: what it is, how good it is and where it ends, filled in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmref.config import Settings, dotted_names
from mmref.metrics.protocols import METRICS

if TYPE_CHECKING:
    from mmref.training.outcome import Outcome

_SHOWN_SKIPPED = 20
_WAYS = {"unrefined": "cosine", "refined": "refined"}


def differing(settings: Settings, other: Settings) -> dict[str, tuple[Any, Any]]:
    """Dotted names of the settings in which two differ, with both values.

    Example:
        >>> differing(Settings().with_values({"training.seed": 3}), Settings())
        {'training.seed': (3, 0)}
    """
    one, two = settings.model_dump(mode="json"), other.model_dump(mode="json")
    found = {}
    for name in dotted_names(one):
        section, key = name.split(".")
        if one[section][key] != two[section][key]:
            found[name] = (one[section][key], two[section][key])
    return found


def model_card(outcome: "Outcome", report: dict[str, Any], folder: Path) -> str:
    """The card as Markdown with front matter.

    Args:
        outcome: the finished training.
        report: what ``metrics.json`` holds.
        folder: the run's folder; its name is the run's name.
    """
    name = folder.resolve().name
    parts = [
        _front_matter(report, name),
        f"# {name}\n\n{_summary(outcome, report)}",
        f"## Figures\n\n{_figures(report)}",
        f"## Use\n\n{_use(report, name)}",
        f"## Training\n\n{_training(outcome, report)}",
        f"## Limits\n\n{_limits(outcome, report)}",
        f"## Made with\n\n{_versions(report)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(report: dict[str, Any], name: str) -> str:
    tags = ["mmref", "text-to-image-retrieval", "fine-grained-retrieval", report["model"]["kind"]]
    lines = ["library_name: mmref", "pipeline_tag: feature-extraction", "tags:"]
    lines += [f"- {tag}" for tag in tags]
    validation = report["validation"]
    if validation is not None:
        way = "refined" if validation["refined"] else "unrefined"
        lines += [
            "model-index:",
            f"- name: {_quoted(name)}",
            "  results:",
            "  - task:",
            "      type: text-to-image-retrieval",
            "    dataset:",
            f"      name: {_quoted(report['val']['name'])}",
            "      type: manifest",
            "      split: val",
            "    metrics:",
        ]
        for metric in ("R@1", "mAP"):
            lines += [
                f"    - type: {_quoted(metric)}",
                f"      value: {validation[way][metric]:.2f}",
            ]
    return "\n".join(["---", *lines, "---"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _summary(outcome: "Outcome", report: dict[str, Any]) -> str:
    model, train = report["model"], report["train"]
    takes = (
        "precomputed image vectors"
        if model["image_size"] is None
        else "pictures, scaled to {} x {} pixels (height x width)".format(*model["image_size"])
    )
    references = outcome.model.references
    count = (
        f" It learnt {len(references.objects):,} references, one for each object."
        if references is not None
        else ""
    )
    return (
        "Finds the image that a sentence describes: a dual encoder trained with multi-modal "
        "references (Ma et al., IEEE TMM 2025, arXiv 2504.07718) by mmref. "
        f"Trained on `{train['name']}`: {train['objects']:,} objects, {train['images']:,} images, "
        f"{train['queries']:,} captions.{count}\n\n"
        f"- encoder `{model['kind']}`; it takes {takes}\n"
        f"- vectors of {model['dimension']:,} numbers; {_parameters(report)}\n"
        f"- weights digest `{model['digest'][:12]}`"
    )


def _parameters(report: dict[str, Any]) -> str:
    parts = {k: v for k, v in report["parameters"].items() if v}
    listed = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    return f"{sum(parts.values()):,} trained parameters ({listed})"


def _figures(report: dict[str, Any]) -> str:
    validation, val = report["validation"], report["val"]
    if validation is None:
        return "None: it was trained to the last epoch without validation objects."
    lines = [
        f"Text to image on the validation split of `{val['name']}`: {validation['queries']:,} "
        f"captions, {validation['gallery']:,} images, {validation['objects']:,} objects; in "
        "percent, with the 95 % interval by bootstrap over objects.",
        "",
        "| | " + " | ".join(METRICS) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for key, label in _WAYS.items():
        metrics, spans = validation[key], validation["ci95"].get(key)
        if metrics is not None:
            cells = [
                f"{metrics[m]:.1f}" + (f" ({spans[m][0]:.1f}-{spans[m][1]:.1f})" if spans else "")
                for m in METRICS
            ]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", f"A random order has R@1 {validation['chance']:.2f}."]
    gain = validation["gain_mAP"]
    if gain is not None:
        lines[-1] += (
            f" The refinement brings mAP {gain['difference']:+.2f} "
            f"[{gain['low']:+.2f}, {gain['high']:+.2f}]."
        )
    lines += [
        "",
        "These objects chose the epoch, the refinement and the parts' shares, so the figures are "
        "somewhat too good: score a test split once for a fair one.",
    ]
    words = report["masked_words"]
    if words is not None:
        lines += [
            "",
            f"Masked words of held-out captions of training objects ({words['words']:,} words): "
            f"{words['right']:.1f} % right with the object's reference, {words['shuffled']:.1f} % "
            f"with another object's, {words['none']:.1f} % with none.",
        ]
    return "\n".join(lines)


def _use(report: dict[str, Any], name: str) -> str:
    features = report["model"]["image_size"] is None
    images = "features" if features else '["a.png", "b.png"]'
    python = [
        "from mmref import MMRef",
        "",
        f'model = MMRef.from_pretrained("{name}")',
        'texts = model.encode_text(["what to look for"])',
        f"scores = model.similarity(texts, model.encode_image({images}))",
    ]
    if features:
        python.insert(2, "# features: float array [n, f], made as those it was trained on")
    what = "SOURCE" if features else "PICTURES"
    shell = [
        f"mmref evaluate {name} --data SOURCE --split test",
        f"mmref index {name} {what} --store {name}.store",
        f'mmref search --store {name}.store "what to look for"',
    ]
    return "\n".join(["```python", *python, "```", "", "```sh", *shell, "```"])


def _training(outcome: "Outcome", report: dict[str, Any]) -> str:
    settings, choice = outcome.model.settings, outcome.model.refinement
    best, epochs = outcome.best_epoch, outcome.epochs
    lines = [
        f"- {epochs} of {settings.training.epochs} epochs in {outcome.seconds:,.0f} s; the best by "
        f"validation mAP is {f'epoch {best}' if best else 'the start, before any epoch'}",
        f"- seed {report['seed']}, batches of {settings.training.batch_size:,} pairs",
    ]
    if choice is not None:
        tau = f", tau_r {choice.temperature:g}, {choice.kept} entries kept"
        lines.append(
            f"- refinement: `{choice.form}`, lambda {choice.weight:g}"
            f"{tau if choice.form == 'posterior' else ''}; chosen on validation among "
            f"{max(0, len(outcome.refinement_search) - 1)}"
        )
    else:
        lines.append("- no refinement: none was surely better than the plain cosine on validation")
    if settings.encoder.block and settings.encoder.deep and settings.encoder.kind != "clip":
        share = report["model"]["deep_share"]
        lines.append(f"- the deep part has a share of {share:g} in the vectors")
    changed = differing(settings, Settings())
    if changed:
        lines.append("- settings other than the default:")
        lines += [f"  - `{k}: {own}` (default {other})" for k, (own, other) in changed.items()]
    else:
        lines.append("- all settings are the default")
    for key in ("train", "val"):
        part = report[key]
        if part is not None:
            lines.append(
                f"- {key}: {part['objects']:,} objects, {part['images']:,} images, "
                f"{part['queries']:,} captions, fingerprint `{part['fingerprint'][:16]}`"
            )
    return "\n".join([*lines, *(f"- {note}" for note in outcome.notes)])


def _limits(outcome: "Outcome", report: dict[str, Any]) -> str:
    vocabulary = report["model"]["vocabulary"]
    lines = []
    if vocabulary is not None:
        lines.append(
            f"It knows the {vocabulary - 3:,} words of its training captions and no others; a "
            "sentence without any of them is equally near to every image."
        )
    if outcome.val is not None:
        objects = report["val"]["objects"]
        if objects < 200:
            lines.append(
                f"{objects} validation objects are few: the intervals above are the honest reading."
            )
        if set(outcome.val.object_names) <= set(outcome.train.object_names):
            lines.append(
                "Closed set: its validation objects are training objects too, so nothing is known "
                "about unseen ones."
            )
    lines.append("It was validated on nothing but the kind of images and captions it learnt from.")
    if outcome.skipped:
        lines.append(f"{len(outcome.skipped):,} images could not be read and were left out:")
    text = [f"- {line}" for line in lines]
    text += [f"  - `{bad.path}`: {bad.reason}" for bad in outcome.skipped[:_SHOWN_SKIPPED]]
    if len(outcome.skipped) > _SHOWN_SKIPPED:
        text.append(f"  - and {len(outcome.skipped) - _SHOWN_SKIPPED:,} more (see `metrics.json`)")
    text.append("- Weights learnt from data stand under that data's terms, whatever they are.")
    return "\n".join(text)


def _versions(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    machine = report["machine"]
    return f"{versions}; {machine['cores']} cores, {machine['processor']}, {machine['system']}."
