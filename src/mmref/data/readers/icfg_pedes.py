"""ICFG-PEDES (Ding et al. 2021): ``ICFG-PEDES.json`` or ``ICFG_PEDES.json``, no val split."""

import re

from mmref.data.readers.person import PersonReader


class IcfgPedesReader(PersonReader):
    """Reads ICFG-PEDES: 4,102 persons, ids from 0, one caption an image.

    The set has train and test alone: 5 % of the training persons are held out as val by a draw,
    which a note says.

    Example:
        >>> IcfgPedesReader().files
        ('ICFG-PEDES.json', 'ICFG_PEDES.json')
    """

    name = "icfg-pedes"
    title = "ICFG-PEDES"
    folders = ("ICFG-PEDES", "ICFG_PEDES", "icfg-pedes", "icfg_pedes", "icfgpedes")
    files = ("ICFG-PEDES.json", "ICFG_PEDES.json")
    prefix = "icfg"
    hint = re.compile(r"(?:ICFG-PEDES/|(?:train|test)/\d+/)")
    where = "put the folders train and test into imgs/ beside the JSON"
