"""Any server that speaks OpenAI's chat completions, or completions with echo: hosted, vLLM, llama.cpp, Ollama.

Chat requests flow in over the SDK's untyped `post` on its aiohttp transport, with the SDK's own retries off; replies or
typed errors flow out. Keys come from the environment alone and appear in no text. Knows no prompt, retry or cache.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit, urlunsplit

import aiohttp
import httpx2
import openai

from autointerp.addresses import check_base_url, host_of, is_near
from autointerp.errors import UsageError
from autointerp.llm.base import ChatReply, ChatRequest, Endpoint, PromptRequest
from autointerp.llm.budget import most_tokens
from autointerp.llm.cut_prompts import PromptCheck, tokens_read
from autointerp.llm.decode import (
    ErrorFacts,
    blot_out,
    classify,
    decode_models,
    decode_reply,
    embedded_error,
    filtered_reply,
    without_secret,
)
from autointerp.llm.errors import (
    AnswerTooLargeError,
    AwayError,
    BadKeyError,
    ConnectionLostError,
    EndpointTimeoutError,
    LlmError,
    MalformedReplyError,
    SentElsewhereError,
    ServerFailedError,
    UnknownModelError,
)
from autointerp.llm.hints import pause_s
from autointerp.llm.negotiate import Negotiation, route
from autointerp.llm.transport import CONNECT_TIMEOUT_S, make_client
from autointerp.llm.wire import clean
from autointerp.provenance import digest

OPENAI_URL = "https://api.openai.com/v1"
TIMEOUT_S = 120.0
NEAR_TIMEOUT_S = 600.0
"""At a server of one's own, which queues without a word: an answer given up is made all the same, for nobody."""
UPLOAD_TIMEOUT_S = 1800.0
"""Of a file of up to 200 MB."""
BYTES_A_TOKEN = 4
"""Of a prompt, roughly: for hints alone."""
VERSION_FIELDS = ("api-version", "api_version", "version")
"""Fields of a URL's query that do not choose what answers."""
AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
NO_KEY = "none"
"""Sent to servers of one's own, which check no key but may want the header."""
_NEVER_OPENED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
T = TypeVar("T")


class OpenAICompatible:
    """A `ChatModel` behind an OpenAI-compatible URL. `complete` asks once; wrappers add patience."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        timeout_s: float | None = None,
        connections: int = 64,
        with_key: bool = True,
    ) -> None:
        """`base_url` defaults to `OPENAI_BASE_URL`, then to OpenAI; `timeout_s` covers one whole answer, in seconds,
        120 or, at a server of one's own, 600 where None.

        Without `with_key` the key stays here.

        Raises:
            UsageError: no URL, OpenAI without `OPENAI_API_KEY`, or a key that is none.
        """
        self._key = checked_key() if with_key else ""
        self._keeps_key = not with_key and bool(secret_key())
        self.endpoint = Endpoint(provider="openai", base_url=self.url_of(base_url), model=model)
        if not self._key and self.endpoint.base_url == OPENAI_URL:
            raise UsageError(
                "no key for api.openai.com: set OPENAI_API_KEY in the environment, or name a server with --base-url"
            )
        self.timeout_s = timeout_s or (NEAR_TIMEOUT_S if self.near else TIMEOUT_S)
        """Of one whole answer, in seconds."""
        self._url = _full_url(base_url)
        self._connections = connections
        self._negotiation = Negotiation()
        self.prompts = PromptCheck()
        """What it has shown of how it reads prompts."""
        self._client: openai.AsyncOpenAI | None = None
        self.heed: Callable[[float], None] = lambda seconds: None
        """Told how long the endpoint's headers ask to wait, in seconds."""

    @staticmethod
    def url_of(base_url: str | None) -> str:
        """The URL that stands for this one, or for the environment's, in keys and files.

        Fields of a query that may choose what answers are in it as a digest; a version is not.

        Raises:
            UsageError: no http or https URL.
        """
        url = _full_url(base_url)
        fields = [field for field in parse_qsl(urlsplit(url).query) if field[0].lower() not in VERSION_FIELDS]
        return bare_url(url) + (f"?{digest(sorted(fields))[-8:]}" if fields else "")

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.name!r} at {self.endpoint.base_url})"

    @property
    def name(self) -> str:
        """`openai:MODEL`."""
        return f"{self.endpoint.provider}:{self.endpoint.model}"

    @property
    def near(self) -> bool:
        """Whether it is a server of one's own: on this machine, in a private network, or under a bare name."""
        return is_near(self.endpoint.base_url)

    @property
    def rejected(self) -> tuple[str, ...]:
        """Request fields that the endpoint refused so far."""
        return tuple(self._negotiation.rejected)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask once; a refused field is written in another way and the request sent again at once.

        Raises:
            LlmError: its subclass says which failure and whether asking again may help.
        """
        while True:
            body = self._negotiation.body(request, self.endpoint.model)
            answer = await self._answer(request, body)
            if isinstance(answer, ChatReply):
                self._negotiation.took(body)
                return answer
            facts = answer
            if not isinstance(request, PromptRequest):
                if self._negotiation.settle(facts, body):
                    continue
                plainer = self._negotiation.plainer(facts, body)
                again = await self._answer(request, plainer) if plainer else facts
                if isinstance(again, ChatReply):
                    self._negotiation.blame(body)
                    return again
                if again.status == 429 or again.status >= 500:
                    facts = again
            if facts.is_filter:
                return filtered_reply(self.endpoint.model)
            if facts.is_unknown_model:
                raise UnknownModelError(self.endpoint.model, await self._served())
            raise self._error(facts)

    async def _answer(self, request: ChatRequest, body: dict[str, object]) -> ChatReply | ErrorFacts:
        """The reply to one body, or what the endpoint says against it."""
        try:
            sent = self._connected().post(route(request), cast_to=httpx2.Response, body=body)
            response = await self._timed(sent, self.timeout_s)
        except openai.APIStatusError as error:
            return self._facts(error)
        if "x-ratelimit-limit-requests" in response.headers or "x-ratelimit-limit-tokens" in response.headers:
            self.heed(pause_s(response.headers, most_tokens(request).input_tokens // BYTES_A_TOKEN))
        received = response.content
        try:
            return self._read_whole(request, without_secret(decode_reply(request, received), self._key), received)
        except (MalformedReplyError, ServerFailedError):
            embedded = embedded_error(received)
            if embedded is None:
                raise
            return ErrorFacts(embedded[0], {}, embedded[1], blot=self._key)

    def _read_whole(self, request: ChatRequest, reply: ChatReply, received: bytes) -> ChatReply:
        """The reply, marked where the server's own count says that it did not read all it was sent."""
        counted = reply.usage.input_tokens + reply.usage.cached_input_tokens
        sent = self.prompts.sent(request, counted)
        fuller = 0 if sent is None else tokens_read(received)
        if fuller > counted:
            sent = self.prompts.sent(request, fuller)
        return reply if sent is None else reply.model_copy(update={"tokens_sent": sent})

    def assume(self, rejected: Sequence[str], window: int | None = None, longest_read: int = 0) -> None:
        """Take as refused what the endpoint refused at an earlier time, with what it showed then of prompts."""
        self.prompts.window = window
        self.prompts.longest_read = max(longest_read, self.prompts.longest_read)
        self._negotiation.rejected += [form for form in rejected if form not in self._negotiation.rejected]

    async def models(self) -> tuple[str, ...]:
        """Names of the models that the endpoint lists; empty where it lists none.

        Raises:
            LlmError: it could not be reached, or refuses to say.
        """
        return tuple(blot_out(name, self._key) for name in decode_models(await self.exchange("GET", "/models")))

    async def slots(self) -> int | None:
        """How many requests a server of llama.cpp's works on at once; None where it does not say.

        Asked of servers of one's own alone, beside the API, where no other server has anything to say.
        """
        if not self.near:
            return None
        root = str(self._connected().base_url).removesuffix("/").removesuffix("/v1")
        try:
            body = await self._timed(self._connected().get(f"{root}/props", cast_to=bytes), CONNECT_TIMEOUT_S)
            slots = json.loads(body).get("total_slots")
        except (LlmError, openai.APIStatusError, ValueError, AttributeError, RecursionError):
            return None
        return slots if isinstance(slots, int) and slots > 0 else None

    async def exchange(self, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
        """One request of any other kind.

        Raises:
            LlmError: the endpoint could not be reached or says no.
        """
        return await self._told(self._exchange(method, path, body))

    async def upload(self, path: Path, purpose: Literal["batch"], timeout_s: float = UPLOAD_TIMEOUT_S) -> str:
        """Send a file under its name.

        Returns:
            The id that the endpoint gave it.

        Raises:
            LlmError: as `exchange`.
        """
        client = self._connected()
        sent = client.files.create(file=path, purpose=purpose, timeout=timeout_s)
        return (await self._told(self._timed(sent, timeout_s))).id

    async def _told(self, sent: Awaitable[T]) -> T:
        """What comes back; a status that says no as an error of ours."""
        try:
            return await sent
        except openai.APIStatusError as error:
            raise self._error(self._facts(error)) from None

    def _error(self, facts: ErrorFacts) -> LlmError:
        error = classify(facts)
        if isinstance(error, BadKeyError) and self._keeps_key:
            return BadKeyError(facts.message, kept_from=self.endpoint.base_url)
        return error

    def _facts(self, error: openai.APIStatusError) -> ErrorFacts:
        """What a status that says no says.

        Raises:
            SentElsewhereError: it names another address; what stands in it beside the host may be secret.
        """
        if 300 <= error.status_code < 400:
            where = urljoin(self.endpoint.base_url, error.response.headers.get("location", ""))
            raise SentElsewhereError(error.status_code, clean(host_of(where)) or "another address") from None
        return ErrorFacts(error.status_code, error.response.headers, error.body, blot=self._key)

    async def _served(self) -> tuple[str, ...]:
        try:
            return await self.models()
        except LlmError:
            return ()

    async def _exchange(self, method: str, path: str, body: dict[str, object] | None) -> bytes:
        """One HTTP exchange; the SDK's status errors pass through, transport errors become ours."""
        client = self._connected()
        if method == "POST":
            return await self._timed(client.post(path, cast_to=bytes, body=body), self.timeout_s)
        return await self._timed(client.get(path, cast_to=bytes), self.timeout_s)

    async def _timed(self, sent: Awaitable[T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await sent
        except TimeoutError:
            raise EndpointTimeoutError(timeout_s) from None
        except openai.APIStatusError:
            raise
        except (openai.OpenAIError, aiohttp.ClientError, httpx2.HTTPError, OSError) as error:
            raise self._transport_error(error) from None

    def _transport_error(self, error: BaseException) -> LlmError:
        """The transport reports a cut connection as a time-out; its own cause tells them apart."""
        causes: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and cause not in causes:
            causes.append(cause)
            cause = cause.__cause__
        large = [c for c in causes if isinstance(c, AnswerTooLargeError)]
        if large:
            return large[0]
        lost = [c for c in causes if isinstance(c, (aiohttp.ClientError, ConnectionError))]
        if any(isinstance(c, _NEVER_OPENED) and not isinstance(c, aiohttp.ClientSSLError) for c in causes):
            return AwayError(self.endpoint.base_url, type((lost or causes)[0]).__name__)
        late = [c for c in causes if isinstance(c, (asyncio.TimeoutError, httpx2.TimeoutException))]
        if late and not [c for c in lost if not isinstance(c, asyncio.TimeoutError)]:
            return EndpointTimeoutError(self.timeout_s)
        return ConnectionLostError(self.endpoint.base_url, type((lost or causes)[0]).__name__)

    def _connected(self) -> openai.AsyncOpenAI:
        """The client, made on first use so that it belongs to the running event loop."""
        if self._client is None:
            parts = urlsplit(self._url)
            self._client = openai.AsyncOpenAI(
                api_key=self._key or NO_KEY,
                base_url=urlunsplit(parts._replace(query="", fragment="")),
                default_query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                default_headers=_key_headers(parts.hostname or "", self._key),
                max_retries=0,
                timeout=httpx2.Timeout(self.timeout_s, connect=CONNECT_TIMEOUT_S),
                http_client=make_client(self._url, self.timeout_s, self._connections),
            )
        return self._client

    async def aclose(self) -> None:
        """Close the connections; a later request opens new ones."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()


def secret_key() -> str:
    """The key from the environment; empty where there is none."""
    return os.environ.get("OPENAI_API_KEY", "").strip()


def checked_key() -> str:
    """The key from the environment, fit to be sent; empty where there is none.

    Raises:
        UsageError: it holds what no key can, as one does that was pasted from a shortened or formatted text.
    """
    key = secret_key()
    odd = next((i for i, c in enumerate(key, start=1) if not "!" <= c <= "~"), None)
    if odd is not None:
        raise UsageError(
            f"OPENAI_API_KEY holds a blank, a line end or a character outside ASCII (character {odd} of {len(key)}), "
            f"which no key does; copy it again"
        )
    return key


def _key_headers(host: str, key: str) -> dict[str, Any]:
    """Azure takes a key under a header of its own, and a token of its directory alone where others take a key."""
    if not key or not f".{host}".endswith(AZURE_HOSTS):
        return {}
    return {"api-key": key, "Authorization": openai.Omit()}  # the SDK takes it, and does not say so in its types


def _full_url(base_url: str | None) -> str:
    url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    try:
        return check_base_url(url)
    except ValueError as error:
        raise UsageError(str(error)) from None


def bare_url(url: str) -> str:
    """A base URL without user, password, query and trailing slash: what may be shown, stored and hashed.

    Raises:
        UsageError: no http or https URL.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https"):
        raise UsageError("the base URL must look like http://127.0.0.1:8000/v1")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
