"""Cutting a source into documents that fit a model's context.

In: text and a function that encodes text to token ids. Out: lists of token ids, none longer than asked. Used
by the harvest and by the scripts that trained the demo model. Knows nothing of BOS, padding or tensors.
"""

import re
from collections.abc import Callable, Iterator, Sequence

Encode = Callable[[str], Sequence[int]]

PARAGRAPH = re.compile(r".*?(?:\n[^\S\n]*(?=\n)\n\s*(?=^|\Z)|\Z)", re.DOTALL | re.MULTILINE)
