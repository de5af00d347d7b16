"""The losses as loops over Python numbers, straight from their definitions."""

import math


def naive_contrastive(similarity, positives, temperature):
    """Sum over anchors of the mean over positives; positives never compete."""
    total = 0.0
    for row, marks in zip(similarity, positives, strict=True):
        each = []
        for s_p, positive in zip(row, marks, strict=True):
            if not positive:
                continue
            top = math.exp(s_p / temperature)
            below = top + sum(
                math.exp(s_k / temperature) for s_k, p in zip(row, marks, strict=True) if not p
            )
            each.append(-math.log(top / below))
        if each:
            total += sum(each) / len(each)
    return total


def naive_identity(similarity, objects, temperature):
    """Mean cross-entropy of each row's own column."""
    total = 0.0
    for row, own in zip(similarity, objects, strict=True):
        total -= math.log(
            math.exp(row[own] / temperature) / sum(math.exp(s / temperature) for s in row)
        )
    return total / len(objects)


def cosines(left, right):
    """Inner products of two lists of vectors."""
    return [[sum(a * b for a, b in zip(x, y, strict=True)) for y in right] for x in left]


def softmax(values):
    """exp(v) over their sum."""
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def columns(rows):
    """The transpose of a list of rows."""
    return [list(column) for column in zip(*rows, strict=True)]


def naive_pairwise(similarity, temperature):
    """Mean of both directions' cross-entropy of the diagonal."""
    total = 0.0
    for rows in (similarity, columns(similarity)):
        for number, row in enumerate(rows):
            total -= math.log(softmax([s / temperature for s in row])[number])
    return total / (2 * len(similarity))


def naive_matching(logits, objects, epsilon):
    """Mean over rows of the sum over columns of p log(p / (q + epsilon))."""
    total = 0.0
    for row, own in zip(logits, objects, strict=True):
        matches = [1.0 if other == own else 0.0 for other in objects]
        for p, match in zip(softmax(row), matches, strict=True):
            if p > 0:
                total += p * math.log(p / (match / sum(matches) + epsilon))
    return total / len(logits)


def naive_sdm(similarity, objects, temperature, epsilon):
    """Both directions of the matching divergence, summed."""
    logits = [[s / temperature for s in row] for row in similarity]
    return naive_matching(logits, objects, epsilon) + naive_matching(
        columns(logits), objects, epsilon
    )


def unit(vector):
    """The vector at length 1."""
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def naive_cmpm(texts, images, objects, temperature, epsilon):
    """The matching divergence of features projected on the other side's directions."""
    total = 0.0
    for anchors, candidates in ((images, texts), (texts, images)):
        projections = cosines(anchors, [unit(c) for c in candidates])
        logits = [[p / temperature for p in row] for row in projections]
        total += naive_matching(logits, objects, epsilon)
    return total


def naive_cmpc(texts, images, weights, objects, temperature):
    """Cross-entropy of each feature projected on its partner, both directions summed."""
    classes, total = [unit(w) for w in weights], 0.0
    for anchors, partners in ((images, texts), (texts, images)):
        for x, z, own in zip(anchors, partners, objects, strict=True):
            direction = unit(z)
            length = sum(a * b for a, b in zip(x, direction, strict=True))
            logits = cosines([[length * v for v in direction]], classes)[0]
            total -= math.log(softmax([v / temperature for v in logits])[own]) / len(objects)
    return total


def naive_tal(similarity, objects, margin, temperature, weigh_by=None):
    """Hinges with soft positives and log-sum-exp negatives; ``weigh_by`` fixes the weights."""
    weigh_by, total = weigh_by or similarity, 0.0
    for rows, weighing in ((similarity, weigh_by), (columns(similarity), columns(weigh_by))):
        for row, given, own in zip(rows, weighing, objects, strict=True):
            same = [k for k, other in enumerate(objects) if other == own]
            rest = [k for k, other in enumerate(objects) if other != own]
            if not rest:
                continue
            weights = softmax([given[k] / temperature for k in same])
            near = sum(w * row[k] for w, k in zip(weights, same, strict=True))
            far = temperature * math.log(sum(math.exp(row[k] / temperature) for k in rest))
            total += max(0.0, margin - near + far)
    return total / len(similarity)


def naive_triplet(similarity, objects, margin):
    """Hinges against the hardest negative, the mean over positives, both directions summed."""
    total = 0.0
    for rows in (similarity, columns(similarity)):
        for row, own in zip(rows, objects, strict=True):
            same = [s for s, other in zip(row, objects, strict=True) if other == own]
            rest = [s for s, other in zip(row, objects, strict=True) if other != own]
            if rest:
                total += sum(max(0.0, margin - s + max(rest)) for s in same) / len(same)
    return total / len(similarity)
