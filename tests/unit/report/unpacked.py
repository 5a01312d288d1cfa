"""What the page unpacks, read again by other means than the page's."""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from autointerp.report.data import ReportWindow
from autointerp.report.text import visible


def inflate(text: str) -> str:
    return zlib.decompress(base64.b64decode(text)).decode()


def unpack(chunk: str) -> Any:
    return json.loads(inflate(chunk))


def text_at(starts: list[int], blocks: list[list[str]], at: int, n: int) -> list[str]:
    """As the page reads a window: from the one block that holds its first token."""
    place = max(k for k, start in enumerate(starts) if start <= at)
    return blocks[place][at - starts[place] :][:n]


def check_windows(
    groups: Sequence[Sequence[ReportWindow]], packed: dict[str, Any], starts: list[int], blocks: list[list[str]]
) -> None:
    """A chunk holds exactly these windows; a cursor that slips by one shows every later window with other levels."""
    levels, simulated = iter(packed["levels"]), iter(packed["simulated"])
    activations, masks = iter(packed["activations"]), iter(packed["silent"])
    at, documents, places = iter(packed["at"]), iter(packed["document"]), iter(packed["target"])
    for group, heads in zip(groups, packed["windows"], strict=True):
        for window, head in zip(group, heads, strict=True):
            part, stratum, decile, n, has_target, is_simulated, is_masked = packed["heads"][head]
            assert (window.part[0], window.stratum, window.decile or 0) == (part, stratum, decile)
            assert visible(window.document) == packed["documents"][next(documents)]
            assert [visible(token) for token in window.tokens] == text_at(starts, blocks, next(at), n)
            mine = [int(next(levels), 16) for _ in range(n)]
            assert mine == list(window.levels)
            assert window.target == (next(places) if has_target else None)
            scored = range(n) if window.target is None else [window.target]
            if is_simulated:
                assert [int(next(simulated), 16) for _ in scored] == list(window.simulated or ())
            mask = next(masks) if is_masked else "".join("1" if mine[i] else "0" for i in scored)
            for bit, i in zip(mask, scored, strict=True):
                assert (bit == "1") == (window.activations[i] != 0)
                if bit == "1":
                    assert abs(next(activations) - window.activations[i]) <= 1e-3 * abs(window.activations[i])
    assert next(levels, None) is next(simulated, None) is next(activations, None) is next(at, None) is None
