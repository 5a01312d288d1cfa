"""How an endpoint is asked: the settings of `[endpoint]`, checked.

Plain values flow in, a frozen section flows out. Knows no endpoint.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from autointerp.errors import UsageError
from autointerp.settings import nested_flags, with_environment

OWN_FIELDS = {
    *("model", "messages", "prompt", "stream", "n", "max_tokens", "max_completion_tokens", "temperature", "stop"),
    *("logprobs", "top_logprobs", "response_format", "echo", "reasoning_effort"),
}
"""Fields of a request's body that are not the user's to give as further ones."""


class Section(BaseModel):
    """A table of a configuration: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EndpointConfig(Section):
    """How an endpoint is asked."""

    in_flight: Annotated[int, Field(ge=1, le=4096)] = 64
    """Requests at the same time, at most; how many the endpoint takes is found out."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Of one request; where absent, 120, and 600 for a server of one's own, which may queue without a word."""
    most_failed: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The run stops where more than this share of the last 200 items failed, refusals left out; 1 never stops it."""
    reasoning_effort: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")] | None = None
    """How much a thinking model thinks, in the endpoint's own word, such as `low`."""
    answer_tokens: Annotated[int, Field(ge=1)] | None = None
    """Room for an answer, thoughts included, where that is more than a question's own (500 and 8 or 100 a level)."""
    extra_body: dict[str, Any] = {}
    """Further fields of every request's body, as a table or as JSON."""

    @field_validator("extra_body", mode="before")
    @classmethod
    def _read_json(cls, value: Any) -> Any:
        """The text of a flag or a variable as what it writes."""
        if not isinstance(value, str):
            return value
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"extra_body is no JSON object: {value[:60]}") from None
        if not isinstance(read, dict):
            raise ValueError('extra_body must be a JSON object, such as {"top_k": 1}')
        return read

    @field_validator("extra_body")
    @classmethod
    def _is_free(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(OWN_FIELDS & value.keys())
        if taken:
            raise ValueError(f"extra_body may not set {', '.join(taken)}: every question sets that for itself")
        if _holds_null(value):
            raise ValueError("extra_body may hold no null, which a configuration cannot keep; leave the field out")
        return value


def _holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_null(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_holds_null(inner) for inner in value)
    return value is None


def endpoint_settings(changes: Mapping[str, object], environment: Mapping[str, str]) -> EndpointConfig:
    """`[endpoint]` where there is no run: the environment's, and over it `endpoint.key` values given.

    Raises:
        UsageError: one of them is none.
    """
    values = nested_flags(with_environment(changes, environment)).get("endpoint", {})
    try:
        return EndpointConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"[endpoint] {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
