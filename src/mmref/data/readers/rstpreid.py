"""RSTPReid (Zhu et al. 2021): ``data_captions.json``, whose paths are called ``img_path``."""

import re

from mmref.data.readers.person import PersonReader


class RstpReidReader(PersonReader):
    """Reads RSTPReid: 4,101 persons, five images each, two captions an image.

    Example:
        >>> bool(RstpReidReader().hint.match("0000_c14_0031.jpg"))
        True
    """

    name = "rstpreid"
    title = "RSTPReid"
    folders = ("RSTPReid", "RSTPReID", "RSTP-ReID", "RSTP-Reid", "rstpreid")
    files = ("data_captions.json",)
    prefix = "rstp"
    hint = re.compile(r"(?:RSTPReid/|\d{4}_c\d+_\d{4}\.)", re.IGNORECASE)
    where = "put the images 0000_c1_0004.jpg and so on into imgs/ beside the JSON"
