"""What becomes of the features of a narrower dictionary in a wider one.

Nearest decoder directions flow in, a `Splitting` flows out.
"""

import numpy as np

from autointerp.compare.card import Splitting
from autointerp.nearest import COSINE_FLOOR, Nearest


def split_between(
    small: str, large: str, found: Nearest, *, a_is_small: bool, floor: float = COSINE_FLOOR
) -> Splitting:
    """How the features of the narrower dictionary come again in the wider one."""
    of_large, cosine = (found.of_b, found.cosine_b) if a_is_small else (found.of_a, found.cosine_a)
    n_small = len(found.of_a) if a_is_small else len(found.of_b)
    own = np.bincount(of_large[cosine >= floor], minlength=n_small)
    return Splitting(
        small=small,
        large=large,
        floor=floor,
        n_small=n_small,
        n_large=len(of_large),
        absent=int((own == 0).sum()),
        one=int((own == 1).sum()),
        several=int((own > 1).sum()),
        novel=int((cosine < floor).sum()),
    )
