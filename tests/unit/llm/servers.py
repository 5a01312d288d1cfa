"""Ten-line HTTP servers for tests of one behaviour each, and a client pointed at them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from autointerp.llm.base import ChatMessage, ChatRequest

KEY = "sk-test-4f9a1c77d2e84b0b"
Handler = Callable[[dict[str, object]], Awaitable[web.StreamResponse]]


def question(text: str = "hello", **more: object) -> ChatRequest:
    """A short request."""
    return ChatRequest.model_validate({"messages": (ChatMessage(role="user", content=text),), "max_tokens": 20, **more})


def completion(text: str = "hi", **choice: object) -> web.Response:
    """A finished chat completion."""
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    first = {"message": {"content": text}, "finish_reason": "stop", **choice}
    return web.json_response({"model": "m", "choices": [first], "usage": usage})


def refusal(status: int, message: str, **fields: object) -> web.Response:
    """An error as OpenAI writes it."""
    return web.json_response({"error": {"message": message, **fields}}, status=status)


@asynccontextmanager
async def answering(
    handler: Handler, models: tuple[str, ...] = (), path: str = "/v1/chat/completions"
) -> AsyncIterator[str]:
    """A server whose chat completions, or whatever it has at that path, are the handler's."""

    async def chat(request: web.Request) -> web.StreamResponse:
        return await handler(json.loads(await request.read()))

    async def listing(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in models]})

    app = web.Application()
    app.router.add_post(path, chat)
    app.router.add_get("/v1/models", listing)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
