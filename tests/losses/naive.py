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
