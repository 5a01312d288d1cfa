"""Why a language model did not answer: one class per class of failure.

    LlmError (RunError)              has a `reason`, the word stored in a failed outcome
    ├── TransientError               asking again may help
    │   ├── RateLimitedError         429; carries what Retry-After said
    │   ├── ServerFailedError        5xx, 408, 409
    │   │   └── NoRoomError          the server has no room for this request beside the others
    │   ├── EndpointTimeoutError     no answer in time
    │   ├── ConnectionLostError      cut
    │   │   └── AwayError            refused, never opened, or not loaded yet: nothing was asked
    │   └── MalformedReplyError      a body that is no chat completion
    ├── AnswerTooLargeError          a body larger than any answer
    ├── ContextTooLongError          the request does not fit the model
    ├── UnsupportedParameterError    a field that the endpoint refuses and that cannot be left out
    ├── BadRequestError              any other refusal of the request itself
    ├── UnexplainedRequestError      a scripted model has no answer
    └── EndpointStoppedError (StoppedError)
        ├── QuotaExhaustedError      the account is empty
        ├── BadKeyError              401, 403
        ├── WrongUrlError            nothing answers chat completions there
        ├── SentElsewhereError       a redirect, which is not followed
        ├── UnknownModelError        lists near names
        ├── TooManyFailuresError     too many of the last items ended Failed
        ├── SilentError              nothing is answered in time
        ├── EndpointAwayError        nobody has been there for long
        ├── BudgetError              the next call could exceed the budget
        └── DrainedError             somebody asked the run to stop

A refusal or a content filter is an answer (`ChatReply.refused`), not an error. Texts quote the server with the key
blotted out by the caller. Knows no prompt and no feature.
"""

from collections.abc import Mapping, Sequence

from autointerp.errors import RunError, StoppedError, near_matches


class LlmError(RunError):
    """A language model did not answer."""

    reason = "llm_error"


class TransientError(LlmError):
    """Asking again may help."""

    retry_after_s: float | None = None
    """How long the server asks us to wait, in seconds."""


class RateLimitedError(TransientError):
    """Too many requests or tokens for now."""

    reason = "rate_limited"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"the endpoint limits the rate of requests: {message}")


class ServerFailedError(TransientError):
    """The server says that it failed."""

    reason = "server_error"

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"the endpoint failed with status {status}: {message}")


class NoRoomError(ServerFailedError):
    """The server had no room for this request beside the others; alone it may fit."""


class EndpointTimeoutError(TransientError):
    """No whole answer in time."""

    reason = "timeout"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"no answer within {timeout_s:g} s")


class ConnectionLostError(TransientError):
    """The connection was cut."""

    reason = "connection_lost"

    def __init__(self, base_url: str, cause: str) -> None:
        advice = "check that the server runs and the URL is right"
        if "Proxy" in cause:
            advice = "the proxy that HTTP_PROXY or HTTPS_PROXY names does not answer; mend that, or set NO_PROXY"
        super().__init__(f"no connection to {base_url} ({cause}); {advice}")


class AwayError(ConnectionLostError):
    """Nobody is there, or not yet, so nothing was asked: a condition of all requests, not of this one."""

    def __init__(self, base_url: str, cause: str) -> None:
        self.cause = cause
        super().__init__(base_url or "the server", cause)


class MalformedReplyError(TransientError):
    """A body that is no chat completion."""

    reason = "malformed_reply"

    def __init__(self, what: str) -> None:
        super().__init__(f"the endpoint sent a body that is no chat completion: {what}")


class AnswerTooLargeError(LlmError):
    """A body larger than any answer; it was not read to its end."""

    reason = "malformed_reply"

    def __init__(self, most: int) -> None:
        super().__init__(f"the endpoint sent more than {most // 2**20:,} MB for one answer, which was not read further")


class ContextTooLongError(LlmError):
    """The request does not fit the model's context."""

    reason = "context_too_long"

    def __init__(self, message: str) -> None:
        super().__init__(f"the request is longer than the model's context: {message}")


class UnsupportedParameterError(LlmError):
    """The endpoint refuses a field that cannot be left out or written in another way."""

    reason = "unsupported_parameter"

    def __init__(self, message: str) -> None:
        super().__init__(f"the endpoint refuses a field of the request that cannot be left out: {message}")


class BadRequestError(LlmError):
    """The endpoint refuses the request for a reason of its own."""

    reason = "bad_request"

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"the endpoint refuses the request with status {status}: {message}")


class UnexplainedRequestError(LlmError):
    """A scripted model was asked something that its script does not answer."""

    reason = "no_answer"


class EndpointStoppedError(LlmError, StoppedError):
    """No further request can succeed until someone acts; the run stops and can go on later."""


class QuotaExhaustedError(EndpointStoppedError):
    """The account has no credit left."""

    reason = "quota_exhausted"

    def __init__(self, message: str) -> None:
        super().__init__(f"the account's quota is used up: {message}; raise it, then run the same command again")


class BadKeyError(EndpointStoppedError):
    """The key is missing, wrong, or not allowed to use this model."""

    reason = "bad_key"

    def __init__(self, message: str, kept_from: str | None = None) -> None:
        """`kept_from` is the URL that the key was not sent to."""
        if kept_from is None:
            super().__init__(f"the endpoint does not accept the key in OPENAI_API_KEY: {message}")
        else:
            super().__init__(
                f"the endpoint wants a key, and yours was not sent to it, as only the run's folder names it; where you "
                f"trust it, name it once with --base-url {kept_from} (it says: {message})"
            )


class WrongUrlError(EndpointStoppedError):
    """A server answers, but not with chat completions at this path."""

    reason = "wrong_url"

    def __init__(self, message: str) -> None:
        super().__init__(f"the server has no chat completions at this base URL (it often ends in /v1): {message}")


class SentElsewhereError(EndpointStoppedError):
    """The endpoint answers with the address of another one, which nobody named."""

    reason = "wrong_url"

    def __init__(self, status: int, where: str) -> None:
        super().__init__(
            f"the endpoint sends on to {where} (status {status}), where nothing is sent that you did not name; where "
            f"you trust it, give its URL as --base-url"
        )


class UnknownModelError(EndpointStoppedError):
    """The endpoint does not serve this model."""

    reason = "unknown_model"

    def __init__(self, model: str, served: Sequence[str]) -> None:
        self.model, self.served = model, tuple(served)
        hint = f"near names there: {near_matches(model, served)}" if served else "it does not list its models"
        super().__init__(f"the endpoint has no model {model!r}; {hint}")


class TooManyFailuresError(EndpointStoppedError):
    """Too many of the last items ended Failed: something is wrong that money will not mend."""

    reason = "too_many_failures"

    def __init__(self, failed: Mapping[str, int], n_items: int, most_failed: float) -> None:
        why = ", ".join(f"{reason} {n}" for reason, n in failed.items())
        slow = "give it longer with --timeout or fewer requests at once with --in-flight, " * ("timeout" in failed)
        super().__init__(
            f"{sum(failed.values())} of the last {n_items} items failed ({why}); {slow}see what ails the endpoint or "
            f"choose another simulator, then run the same command again, with --most-failed above {most_failed:g} to "
            f"let more pass"
        )


class SilentError(EndpointStoppedError):
    """Request after request was not answered in time, and none was."""

    reason = "timeout"

    def __init__(self, host: str, n: int, timeout_s: float) -> None:
        super().__init__(
            f"{host} answered none of {n} requests within {timeout_s:g} s; give it longer with --timeout, fewer at "
            f"once with --in-flight, or a smaller model, then run the same command again"
        )


class EndpointAwayError(EndpointStoppedError):
    """Nobody has been there for as long as one waits."""

    reason = "connection_lost"

    def __init__(self, host: str, cause: str, seconds: float) -> None:
        super().__init__(
            f"no answer from {host} for {seconds:.0f} s ({cause}); start the server or mend --base-url, then run the "
            f"same command again"
        )


class BudgetError(EndpointStoppedError):
    """The next call could exceed the budget."""

    reason = "budget"

    def __init__(self, spent: str, budget: str) -> None:
        super().__init__(f"stopped at {spent}: the next call could exceed the budget of {budget}; give a larger one")


class DrainedError(EndpointStoppedError):
    """Somebody asked the run to stop."""

    reason = "interrupted"

    def __init__(self) -> None:
        super().__init__("stopped; every answer that came is kept, and the same command goes on from here")
