"""The seam to language models: one request, one reply, one method.

Everything in the program that asks an LLM does it through `ChatModel`. Knows no provider, prompt or feature.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from autointerp.records import Record, Usage


class ChatMessage(Record):
    """One turn of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Record):
    """One question; equal requests have equal answers in the cache."""

    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float | None = None
    top_logprobs: int | None = None
    """Ask for this many most likely tokens at each generated position."""
    json_schema: dict[str, object] | None = None
    """Ask for an answer that fits this schema."""
    extra_body: dict[str, object] | None = None
    """Further fields of the body; part of the question only where there are any."""
    sample: int = 0
    """Number among repeated askings of the same question (candidates, asked again)."""
    stop: tuple[str, ...] = ()
    """Texts before which an answer may end: what follows them is of no use. Endpoints take four at most, or none."""


class PromptRequest(ChatRequest):
    """A text to be read and not answered: what the model would have said at each token of its end."""

    messages: tuple[ChatMessage, ...] = ()
    max_tokens: int = 1
    prompt: str
    """What stands before."""
    read: str
    """The end of the text, at whose tokens the `top_logprobs` most likely ones are asked for."""


class TokenLogprob(NamedTuple):
    """One token with the most likely ones at its position."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class ChatReply(Record):
    """What came back: text and why it ended; a refusal is an answer, not an error."""

    text: str
    """What was generated; of a `PromptRequest` what it asked to be read."""
    finish_reason: str
    """`stop`, `length`, `content_filter`, or what the server says."""
    refused: bool = False
    logprobs: tuple[TokenLogprob, ...] | None = None
    """At the tokens of the text, in order; of a `PromptRequest` the first one may begin before it."""
    model: str
    """Who answered, as the server says it; empty where it does not."""
    usage: Usage
    id: str = ""
    """The server's own number of this answer; empty where it gives none."""
    context_full: bool = False
    """Whether the answer was cut off before it was as long as it might be: the context had no more room."""
    tokens_sent: int | None = None
    """About how many tokens the prompt had, where the server read fewer and answered; else None."""


class Endpoint(Record):
    """Which model answers where; part of every cache key, so it never holds a credential."""

    provider: str
    base_url: str
    """Without user, password, query or trailing slash, but for a digest of a query that may choose what answers."""
    model: str


class Capabilities(Record):
    """What an endpoint was seen to do, not what it claims; see `probe`."""

    endpoint: Endpoint
    answers_differ: bool
    """Two different prompts gave two different answers; False is an endpoint that does not read its prompt."""
    top_logprobs: int
    """Most likely tokens really returned at each generated position; 0 where none came."""
    logprobs_differ: bool
    """Two different prompts gave different log probabilities."""
    json_schema: bool
    """An answer took a shape that only the schema asked for."""
    ten_is_one_token: bool | None
    """None where no answer showed it."""
    prompt_logprobs: int | None = None
    """Most likely tokens really returned at each token of a prompt; 0 where none came or they did not depend on what
    stood before, None where this was not asked."""
    rejected: tuple[str, ...]
    """Request fields that the endpoint refused and that are no longer sent, or sent in another form."""
    seen: float | None = None
    """When it was asked, in seconds since 1970; None where that is not known, or another model answers since."""
    served: tuple[str, ...] = ()
    """Names under which answers came."""
    crossed: int = 0
    """Answers that came with the id of an answer to another question."""
    window: int | None = None
    """Tokens that it reads of a longer prompt, dropping the rest without a word; None where it was not seen to."""
    longest_read: int = 0
    """Tokens of the longest prompt of the probe, as the endpoint counts them; 0 where it does not."""


class ChatModel(Protocol):
    """Anything that answers a prompt."""

    @property
    def name(self) -> str:
        """`provider:name`."""
        ...

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer, or raise a `RunError` that says why not."""
        ...


@runtime_checkable
class Settling(Protocol):
    """A `ChatModel` that wants to know what became of its answers."""

    def settle(self, reason: str | None, asked: Sequence[ChatRequest]) -> None:
        """An item was answered (None), or ended Failed for a reason after these requests."""
        ...


class Purpose(NamedTuple):
    """What a question is asked for; not part of the request, so that equal questions share one answer."""

    stage: str
    """`explain`, `select`, `refine`, `simulate`, `shuffled`, `unrefined`, `guided`; `other` outside a run."""
    feature: str
    """`dictionary/index`; empty outside a run."""


class CallNotes(Protocol):
    """Who is told of every reply that was used; implemented in `store`."""

    def used(self, key: str, endpoint: Endpoint, reply: ChatReply, *, paid: bool) -> None:
        """A reply was taken: `paid` where it was asked for just now, else it was in the cache.

        What for is `purpose.purpose()`. Told before a paid reply goes into the cache, so that a kill in between
        forgets no payment.
        """
        ...


class ReplyCache(Protocol):
    """Where replies are kept; implemented in `store`."""

    def get(self, key: str) -> ChatReply | None:
        """The reply kept under a request's digest."""
        ...

    async def put(self, key: str, reply: ChatReply) -> None:
        """Keep a reply; returns once it is safe on disk."""
        ...
