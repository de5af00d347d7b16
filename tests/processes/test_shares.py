import pytest
import torch

from mmref.processes.group import Group
from mmref.processes.shares import share_of


@pytest.mark.parametrize("total", [0, 1, 2, 3, 5, 8, 129])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_all_rows_once(total, count):
    shares = [share_of(total, rank, count) for rank in range(count)]
    taken = [list(range(total))[share.rows] for share in shares]
    if total < count or count == 1:
        assert taken == [list(range(total))] * count
        assert not any(share.divided for share in shares)
        return
    assert [row for rows in taken for row in rows] == list(range(total))
    assert [len(rows) for rows in taken] == list(shares[0].sizes)
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    assert [share.rank for share in shares] == list(range(count))


def test_blocks_of_one_process_are_those_of_a_loop():
    rows = torch.randn(7, 3)
    asked = []

    def encode(part):
        asked.append((part.start, part.stop))
        return [rows[part, :1].double(), rows[part, 1:]]

    found = Group().in_blocks(7, 3, (1, 2), encode)
    assert asked == [(0, 3), (3, 6), (6, 7)]
    assert [part.dtype for part in found] == [torch.float32] * 2
    assert torch.equal(torch.cat(found, dim=1), rows)
    assert [part.shape for part in Group().in_blocks(0, 3, (1, 2), encode)] == [(0, 1), (0, 2)]
