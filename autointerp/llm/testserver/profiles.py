"""Kinds of servers: what they refuse, leave out, cut and write in their own way. Plain data.

The rows named after a provider or a program play its documented behaviour, or what its users report of it;
`docs/endpoints.md` says what follows for a run.
"""

from dataclasses import dataclass
from typing import Literal

ErrorForm = Literal["openai", "anthropic", "list", "flat", "detail", "string"]
"""How an error is written: `{"error": {…}}`; `{"type": "error", "error": {…}}`; the first in a list, as Gemini's;
`{"object": "error", "message": …}`, as vLLM's; `{"detail": …}`, as FastAPI's; or `{"error": "…"}`, as LM Studio's."""
LogprobForm = Literal["openai", "absent", "null", "columns", "spaceless"]
"""As OpenAI writes them; not at all; null; as lists beside each other, as Together's; or each token decoded by itself,
so that its leading space is lost, as vLLM's for SentencePiece tokenizers."""
ThoughtForm = Literal["hidden", "field", "tags", "closing tag", "channel", "parts"]
"""Where thoughts show: nowhere; in a field of their own; in the text between tags; with the closing tag alone; in
harmony's channels; or as parts of a list that is the content."""


@dataclass(frozen=True)
class Refusal:
    """What a server says against a field of chat completions."""

    field: str
    """Of the body; `integer enum` stands for a schema that lists integers."""
    message: str
    status: int = 400
    code: str = "invalid_request_error"
    param: str | None = None


@dataclass(frozen=True)
class Window:
    """How much a server reads at once, in tokens, and what it does with more."""

    tokens: int
    cuts: bool = False
    """The beginning of what is too long is dropped without a word, but for what usage says."""
    message: str = (
        "This model's maximum context length is {window} tokens. However, your messages resulted in {n} tokens."
    )
    status: int = 400
    code: str = "context_length_exceeded"
    shared: bool = False
    """All requests under way share it; what does not fit beside the others fails with status 500."""


@dataclass(frozen=True)
class Profile:
    """What a kind of server does differently from OpenAI's."""

    logprobs: LogprobForm = "openai"
    ignores_echo: bool = False
    """Answers a completion without its prompt, and with log probabilities of what it generated alone."""
    ignores_schema: bool = False
    """Answers as if no schema had been asked for."""
    ignores_stop: bool = False
    """Writes on behind a stop sequence."""
    splits_digits: bool = False
    """Its tokenizer has no token of two digits."""
    rambles: bool = False
    """Goes on behind a numbered list until something stops it."""
    fences: bool = False
    """Writes JSON into a fence with a sentence before it, where no schema is enforced."""
    refusals: tuple[Refusal, ...] = ()
    errors: ErrorForm = "openai"
    error_status: int | None = None
    """The HTTP status of every error, whose own is then in its `code`; as it is where None."""
    thoughts: ThoughtForm | None = None
    n_thoughts: int = 0
    """Tokens that it thinks before it answers; they count against the room for the answer."""
    window: Window | None = None
    omits_usage: bool = False
    model: str | None = None
    """The name that its answers bear, whatever was asked for."""
    serves: tuple[str, ...] | None = None
    """Names that it knows; any where None."""
    unknown_model: str = "The model `{model}` does not exist or you do not have access to it."
    unknown_model_status: int = 404
    needs_query: str | None = None
    """A key without which the URL leads nowhere."""
    slots: int | None = None
    """How many requests it works on at once; `/props` says so."""


_NO_LOGPROBS = "logprobs is not supported with this model"
_LLAMA_CPP_WINDOW = Window(
    8192,
    message="the request exceeds the available context size, try increasing it ({n} tokens, {window} available)",
    code="exceed_context_size_error",
    shared=True,
)
PROFILES: dict[str, Profile] = {
    "full": Profile(),
    "no-logprobs": Profile(logprobs="absent"),
    "no-echo": Profile(ignores_echo=True),
    "no-schema": Profile(ignores_schema=True),
    "split-digits": Profile(splits_digits=True),
    "strict": Profile(
        refusals=tuple(
            Refusal(name, f"Unsupported parameter: '{name}' is not supported with this model.", 400, name, name)
            for name in ("max_tokens", "temperature", "logprobs")
        )
    ),
    "openai": Profile(ignores_echo=True),
    "openai-reasoning": Profile(
        ignores_echo=True,
        thoughts="hidden",
        n_thoughts=700,
        refusals=(
            Refusal(
                "max_tokens",
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead.",
                400,
                "unsupported_parameter",
                "max_tokens",
            ),
            Refusal(
                "temperature",
                "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
                "supported.",
                400,
                "unsupported_value",
                "temperature",
            ),
            Refusal("logprobs", "You are not allowed to request logprobs from this model", 403, "", None),
            Refusal(
                "stop",
                "Unsupported parameter: 'stop' is not supported with this model.",
                400,
                "unsupported_parameter",
                "stop",
            ),
        ),
    ),
    "azure": Profile(
        ignores_echo=True,
        needs_query="api-version",
        refusals=(Refusal("temperature", "Unsupported value: 'temperature'", 400, "unsupported_value", "temperature"),),
    ),
    "anthropic": Profile(
        logprobs="absent",
        ignores_echo=True,
        ignores_schema=True,
        fences=True,
        errors="anthropic",
        refusals=(Refusal("temperature", "`temperature` is deprecated for this model.", 400, "invalid_request_error"),),
        window=Window(
            200_000, message="prompt is too long: {n} tokens > {window} maximum", code="invalid_request_error"
        ),
    ),
    "gemini": Profile(
        ignores_echo=True,
        errors="list",
        thoughts="hidden",
        n_thoughts=400,
        refusals=(
            Refusal("logprobs", "Logprobs is not enabled for models/test-model", 400, "INVALID_ARGUMENT"),
            Refusal(
                "integer enum",
                "Invalid value at 'generation_config.response_schema.properties[0].value.enum[0]' (TYPE_STRING), 0",
                400,
                "INVALID_ARGUMENT",
            ),
        ),
        window=Window(
            1_048_576,
            message="The input token count ({n}) exceeds the maximum number of tokens allowed ({window}).",
            code="INVALID_ARGUMENT",
        ),
    ),
    "deepseek": Profile(
        ignores_echo=True,
        refusals=(Refusal("response_format", "This response_format type is unavailable now"),),
    ),
    "deepseek-reasoner": Profile(
        ignores_echo=True,
        thoughts="field",
        n_thoughts=600,
        fences=True,
        refusals=(
            Refusal("response_format", "This response_format type is unavailable now"),
            Refusal("logprobs", "deepseek-reasoner does not support the parameters logprobs and top_logprobs"),
        ),
    ),
    "mistral": Profile(
        ignores_echo=True,
        errors="flat",
        refusals=(
            Refusal(
                "logprobs",
                '{"detail": [{"type": "extra_forbidden", "loc": ["body", "logprobs"], "msg": "Extra inputs are not '
                'permitted", "input": true}]}',
                422,
                "invalid_request_error",
            ),
        ),
    ),
    "mistral-reasoning": Profile(
        ignores_echo=True,
        errors="flat",
        thoughts="parts",
        n_thoughts=300,
        refusals=(Refusal("logprobs", "logprobs: Extra inputs are not permitted (extra_forbidden)", 422),),
    ),
    "groq": Profile(
        ignores_echo=True,
        refusals=(
            Refusal("logprobs", f"`{_NO_LOGPROBS}`", 400, "invalid_request_error", "logprobs"),
            Refusal(
                "response_format",
                "This model does not support response format `json_schema`. See supported models.",
                400,
                "invalid_request_error",
                "response_format",
            ),
        ),
        window=Window(
            6000,
            message="Request too large for model `test-model` on tokens per minute (TPM): Limit {window}, Requested "
            "{n}, please reduce your message size and try again.",
            status=413,
            code="rate_limit_exceeded",
        ),
    ),
    "together": Profile(ignores_echo=True, logprobs="columns"),
    "openrouter": Profile(
        ignores_echo=True,
        logprobs="absent",
        error_status=200,
        serves=("test-model",),
        unknown_model="{model} is not a valid model ID",
        unknown_model_status=400,
    ),
    "litellm": Profile(
        ignores_echo=True,
        refusals=(
            Refusal(
                "logprobs",
                "litellm.UnsupportedParamsError: test does not support parameters: ['logprobs', 'top_logprobs'], for "
                "model=test-model. To drop these, set `litellm.drop_params=True`",
                400,
                "400",
            ),
        ),
        window=Window(
            16_384,
            message="litellm.ContextWindowExceededError: litellm.BadRequestError: {n} tokens do not fit into {window}",
            code="400",
        ),
    ),
    "vllm": Profile(
        errors="flat",
        window=Window(
            8192,
            message="This model's maximum context length is {window} tokens. However, you requested {n} tokens in the "
            "messages, Please reduce the length of the messages.",
            code="BadRequestError",
        ),
    ),
    "vllm-sentencepiece": Profile(errors="flat", logprobs="spaceless"),
    "vllm-thinking": Profile(errors="flat", thoughts="closing tag", n_thoughts=300),
    "vllm-harmony": Profile(errors="flat", logprobs="absent", thoughts="channel", n_thoughts=300),
    "sglang": Profile(
        errors="flat",
        ignores_echo=True,
        thoughts="tags",
        n_thoughts=200,
        logprobs="absent",
        window=Window(
            8192,
            message="The input ({n} tokens) is longer than the model's context length ({window} tokens).",
            code="BadRequestError",
        ),
    ),
    "llama.cpp": Profile(ignores_echo=True, rambles=True, model="model.gguf", slots=4, window=_LLAMA_CPP_WINDOW),
    "ollama": Profile(
        ignores_echo=True,
        window=Window(4096, cuts=True),
        serves=("test-model",),
        unknown_model="model '{model}' not found",
    ),
    "lmstudio": Profile(
        ignores_echo=True,
        logprobs="null",
        errors="string",
        window=Window(
            4096,
            message="Trying to keep the first {n} tokens when context the overflows. However, the model is loaded with "
            "context length of only {window} tokens, which is not enough.",
        ),
    ),
    "transformers-serve": Profile(
        ignores_echo=True,
        logprobs="absent",
        ignores_schema=True,
        ignores_stop=True,
        errors="detail",
        serves=("test-model",),
        unknown_model="Server is pinned to test-model",
        unknown_model_status=400,
    ),
}
