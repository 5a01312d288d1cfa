"""The HTTP client under the SDK: it follows nobody elsewhere, reads no more than an answer may have, and asks a server
on this machine without a proxy in between.

A URL flows in, a client flows out. Knows no model and no key.
"""

from typing import Any

import httpx2
import openai

from autointerp import limits
from autointerp.addresses import is_loopback
from autointerp.llm.errors import AnswerTooLargeError

CONNECT_TIMEOUT_S = 5.0
_UNPACKED = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that no longer hold of a body that was read."""


def make_client(url: str, timeout_s: float, connections: int) -> httpx2.AsyncClient:
    """A client for the server at a URL."""
    timeout = httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
    pool = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    host = httpx2.URL(url).host
    direct = {f"all://[{host}]" if ":" in host else f"all://{host}": None} if is_loopback(url) else None
    return _BoundedClient(
        limits=pool,
        timeout=timeout,
        follow_redirects=False,
        mounts=direct,
        headers={"Accept-Encoding": "gzip, deflate"},
    )


class _BoundedClient(openai.DefaultAioHttpClient):
    """Reads every body itself, piece by piece, and stops at the limit."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The whole response.

        Raises:
            AnswerTooLargeError: its body, unpacked, is larger than any answer.
        """
        most = limits.DOWNLOAD if request.url.path.endswith("/content") else limits.ANSWER
        response = await super().send(request, **{**options, "stream": True})
        try:
            pieces, size = [], 0
            async for piece in response.aiter_bytes():
                size += len(piece)
                if size > most:
                    raise AnswerTooLargeError(most)
                pieces.append(piece)
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _UNPACKED]
        return httpx2.Response(response.status_code, headers=headers, content=b"".join(pieces), request=request)
