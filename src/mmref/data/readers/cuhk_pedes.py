"""CUHK-PEDES (Li et al. 2017): ``reid_raw.json``, or ``caption_all.json`` with a split file."""

import re

from mmref.data.readers.person import PersonReader


class CuhkPedesReader(PersonReader):
    """Reads CUHK-PEDES: 13,003 persons, ids from 1, images in seven folders under ``imgs/``.

    ``caption_all.json``, which the authors mail today, says no splits: they are never guessed,
    and the error says how to name a split file.

    Example:
        >>> CuhkPedesReader().files, CuhkPedesReader().folders[0]
        (('reid_raw.json', 'caption_all.json'), 'CUHK-PEDES')
    """

    name = "cuhk-pedes"
    title = "CUHK-PEDES"
    folders = ("CUHK-PEDES", "CUHK_PEDES", "cuhk-pedes", "cuhk_pedes", "cuhkpedes")
    files = ("reid_raw.json", "caption_all.json")
    prefix = "cuhk"
    hint = re.compile(
        r"(?:CUHK-PEDES/|(?:cam_a|cam_b|CUHK01|CUHK03|Market|test_query|train_query)/)"
    )
    where = (
        "put the folders cam_a, cam_b, CUHK01, CUHK03, Market, test_query and train_query into "
        "imgs/ beside the JSON"
    )
