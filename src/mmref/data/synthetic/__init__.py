"""The ambiguity benchmark: pictures drawn by the project, captions with known faults.

``generate`` writes a data set in the manifest format; ``domains`` lists what can be drawn. A new
domain (birds, flowers) is one file that makes a ``Domain``: its attributes, a function that tells
statements in words, a function that draws a view.

Example:
    >>> from mmref.data.synthetic import SyntheticSettings, plan_objects, write_captions
    >>> settings = SyntheticSettings(objects=2, omit=0.5)
    >>> first = plan_objects(settings)[0]
    >>> len(write_captions(settings, first, view=0)["captions"])
    2
"""

from mmref.data.synthetic.attributes import (
    Ambiguity,
    Attribute,
    Domain,
    Statement,
    saying_probabilities,
)
from mmref.data.synthetic.captions import PHRASE_BREAK
from mmref.data.synthetic.drawing import Rendering, ViewOptions
from mmref.data.synthetic.generate import (
    SyntheticObject,
    SyntheticSettings,
    domains,
    draw_view,
    generate,
    plan_objects,
    write_captions,
)

__all__ = [
    "PHRASE_BREAK",
    "Ambiguity",
    "Attribute",
    "Domain",
    "Rendering",
    "Statement",
    "SyntheticObject",
    "SyntheticSettings",
    "ViewOptions",
    "domains",
    "draw_view",
    "generate",
    "plan_objects",
    "saying_probabilities",
    "write_captions",
]
