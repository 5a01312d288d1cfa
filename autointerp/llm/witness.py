"""Who answers, as far as answers say: names that servers give, and whether one answer came for two questions.

Requests and replies pass through unchanged; what is odd flows out as lines, once, and what was seen stands here. A name
is believed to be another model's where it is neither one seen before nor a version of the one asked for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from autointerp.llm.base import ChatModel, ChatReply, ChatRequest

MOST_IDS = 200_000
"""Ids of answers that are remembered, of the first ones."""
_ENDS = "-:@._/ ["
"""What stands between a model's name and its version."""


@dataclass
class Witness:
    """Sees every answer that was asked for just now."""

    inner: ChatModel
    asked: str
    """The model's name as the user gave it."""
    host: str = "the endpoint"
    say: Callable[[str], None] = lambda text: None
    names: dict[str, None] = field(default_factory=dict)
    """Names under which answers came, in the order in which they were met."""
    crossed: int = 0
    """Answers whose id had come for another question."""
    swapped: bool = False
    """Whether another model answered than before."""
    learnt: Callable[[], None] = lambda: None
    """Told when one of these changed."""
    _ids: dict[str, int] = field(default_factory=dict, repr=False)
    _said_kept: bool = False

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask, and look at who answers."""
        reply = await self.inner.complete(request)
        self._see_name(reply.model)
        self._see_id(reply.id, hash(request.model_dump_json()))
        return reply

    @property
    def latest(self) -> str:
        """The name met last; empty where none was."""
        return next(reversed(self.names), "")

    def believes(self, kept: str) -> bool:
        """Whether a kept reply under this name is of the model that answers now."""
        if not kept or not self.names or kept in self.names:
            return True
        return is_version(self.asked, kept) and all(is_version(self.asked, name) for name in self.names)

    def disbelieve(self, kept: str) -> None:
        """A kept reply of another model is not used: say so once."""
        if not self._said_kept:
            self._said_kept = True
            self.say(
                f"{self.latest} answers at {self.host} where {kept} answered before under the name {self.asked}: what "
                f"{kept} answered is not used, and is asked anew"
            )

    def _see_name(self, name: str) -> None:
        if not name or name in self.names:
            return
        if not self.believes(name):
            self.swapped = True
            self.say(
                f"{name} answers at {self.host} where {self.latest} answered before: this run holds answers of both "
                f"under the name {self.asked}"
            )
        self.names[name] = None
        self.learnt()

    def _see_id(self, number: str, question: int) -> None:
        before = self._ids.get(number)
        if not number or before == question:
            return
        if before is None:
            if len(self._ids) < MOST_IDS:
                self._ids[number] = question
            return
        self.crossed += 1
        if len(self._ids) > self.crossed:  # a server that gives all its answers one id says nothing by it
            if self.crossed == 1 or self.crossed.bit_count() == 1:
                self.say(
                    f"{self.crossed} answers from {self.host} came with the id of an answer to another question: "
                    f"something on the way may mix up answers (a proxy that caches?)"
                )
            self.learnt()


def is_version(asked: str, name: str) -> bool:
    """Whether a name that a server gives is the one asked for, or a version of it: `gpt-x` and `gpt-x-2026-01-02`."""
    wanted, given = (text.lower().rpartition("/")[2] for text in (asked, name))
    return given == wanted or (given.startswith(wanted) and given[len(wanted) :][:1] in _ENDS)


def foreign_names(asked: str, names: Iterable[str]) -> list[str]:
    """Names under which answers came that are no version of the one asked for."""
    return [name for name in names if not is_version(asked, name)]
