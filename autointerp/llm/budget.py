"""What a run may spend, and the call that would exceed it: never sent.

What was spent flows in at the start and with each reply; permission to send flows out. A request is held against the
most that it can cost until its reply says what it did. Knows no file and no price list.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from autointerp.listener import Spending
from autointerp.llm.base import ChatReply, ChatRequest, PromptRequest
from autointerp.llm.errors import BudgetError
from autointerp.llm.gate import Gate
from autointerp.records import Usage

ROLE_TOKENS = 16
"""More than a chat template adds around one message, in tokens."""
ROOM_BEYOND = Usage(input_tokens=10_000, output_tokens=200_000)
"""More than a server adds to a prompt by itself, and more than a model thinks beyond what it was allowed."""
FEWEST_SHARE = 100
"""A prompt has at least one token in so many bytes."""
Price = Callable[[Usage], float]
"""US dollars for a usage."""


def most_tokens(request: ChatRequest) -> Usage:
    """The most that one answer can cost: no tokenizer of today makes more tokens than there are bytes."""
    given = sum(len(message.content.encode()) + ROLE_TOKENS for message in request.messages)
    if isinstance(request, PromptRequest):
        given += len((request.prompt + request.read).encode()) + ROLE_TOKENS
    return Usage(calls=1, input_tokens=given, output_tokens=request.max_tokens)


def cost_of(request: ChatRequest, reply: ChatReply) -> Usage:
    """What a reply says that it took; the most that it can have taken where it says nothing, or what cannot be."""
    said, most = reply.usage, most_tokens(request)
    if reply.refused and not reply.text:  # a filter stood in front of the model
        return said
    fewest = most.input_tokens // FEWEST_SHARE
    if not max(1, fewest) <= said.input_tokens <= 2 * most.input_tokens + ROOM_BEYOND.input_tokens:
        said = said.model_copy(update={"input_tokens": most.input_tokens, "cached_input_tokens": 0})
    if not bool(reply.text) <= said.output_tokens <= 2 * most.output_tokens + ROOM_BEYOND.output_tokens:
        said = said.model_copy(update={"output_tokens": most.output_tokens})
    cached = min(said.cached_input_tokens, said.input_tokens)
    return said.model_copy(update={"cached_input_tokens": cached})


@dataclass
class Budget:
    """At most `tokens` (input and output) and `usd`; None for no bound."""

    gate: Gate
    tokens: int | None = None
    usd: float | None = None
    price: Price | None = None
    """Needed where there is a bound in dollars."""
    spent: Usage = field(default_factory=Usage)
    _held: Usage = field(default_factory=Usage)
    _settled: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    async def hold(self, request: ChatRequest) -> Usage:
        """Hold back the most that a request can cost; waits where only what is in flight stands in its way.

        Raises:
            StoppedError: it could exceed the budget with nothing in flight, or the gate is closed.
        """
        wanted = most_tokens(request)
        while not self.fits(wanted):
            if not self._held.calls:
                self.gate.close(self.exceeded())
            self.gate.check()
            self._settled.clear()
            await self._settled.wait()
        self._held += wanted
        return wanted

    def settle(self, held: Usage, cost: Usage) -> None:
        """Release what was held for a request and count what it cost."""
        self._held -= held
        self.spent += cost
        self._settled.set()

    def spending(self) -> Spending:
        """What was spent until now."""
        return Spending(self.spent.calls, _tokens(self.spent), self.price(self.spent) if self.price else None)

    def fits(self, wanted: Usage) -> bool:
        """Whether this much more is still within the bounds."""
        usage = self.spent + self._held + wanted
        if self.tokens is not None and _tokens(usage) > self.tokens:
            return False
        return self.usd is None or self.price is None or self.price(usage) <= self.usd

    def exceeded(self) -> BudgetError:
        """Why nothing more is sent."""
        spent = f"{_tokens(self.spent):,} tokens"
        if self.price:
            spent = f"{self.price(self.spent):.4f} USD, {spent}"
        bounds = [f"{self.usd:g} USD" if self.usd is not None else "", f"{self.tokens:,} tokens" if self.tokens else ""]
        return BudgetError(spent, " and ".join(filter(None, bounds)))


def _tokens(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens
