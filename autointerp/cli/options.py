"""Parameters that several commands share, and which of them are settings of a run.

Words flow in as typed parameters; the keys of a configuration flow out.
"""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Argument(metavar="CONFIG.toml", help="Settings; flags win over them.")]
Model = Annotated[str | None, typer.Option(help="A Hugging Face folder, or a name that TransformerLens knows.")]
HookPoint = Annotated[str | None, typer.Option(help="Where dictionaries that name no hook point read.")]
Dictionaries = Annotated[
    list[str] | None,
    typer.Option("--dictionary", metavar="[ID=]SPEC", help="A path, neurons@HOOK or random@ID; may be given again."),
]
Corpus = Annotated[
    str | None,
    typer.Option(help="python-docs, a .txt, .jsonl or .parquet file, a folder of such, or hf:NAME for a data set."),
]
Features = Annotated[
    str | None, typer.Option(help="all, 0-999,7, @file, sample:500 (default), or matched:200 for pairs.")
]
Protocol = Annotated[str | None, typer.Option(help="How windows are chosen and scored: graded, or simulate.")]
Explainer = Annotated[str | None, typer.Option(help="Who explains: lookup, or tsv with a language model.")]
Simulator = Annotated[
    str | None,
    typer.Option(
        help="Who predicts levels: lookup, or top-logprobs, structured or prompt-logprobs with a language model."
    ),
]
Llm = Annotated[str | None, typer.Option(metavar="MODEL", help="The language model asked; without it, look-up.")]
BaseUrl = Annotated[str | None, typer.Option(metavar="URL", help="Its endpoint; OPENAI_BASE_URL, else OpenAI's.")]
Cache = Annotated[Path | None, typer.Option(metavar="PATH", help="The reply cache; one per user by default.")]
BudgetUsd = Annotated[float | None, typer.Option(help="Stop before the call that could make the run cost more.")]
BudgetTokens = Annotated[int | None, typer.Option(help="The same in tokens, input and output.")]
InFlight = Annotated[int | None, typer.Option(help="Requests at the same time, at most (64).")]
Timeout = Annotated[
    float | None, typer.Option(metavar="S", help="Seconds for one answer (120; 600 at a server of one's own).")
]
ReasoningEffort = Annotated[
    str | None, typer.Option(metavar="WORD", help="How much a thinking model thinks, in the endpoint's word.")
]
AnswerTokens = Annotated[
    int | None, typer.Option(metavar="N", help="Room for an answer, thoughts included, beyond a question's own.")
]
ExtraBody = Annotated[
    str | None, typer.Option(metavar="JSON", help="Further fields of every request's body, such as '{\"top_k\": 1}'.")
]
MostFailed = Annotated[
    float | None, typer.Option(help="Stop where more than this share of the last 200 items failed (0.1); 1 never does.")
]
Windows = Annotated[int | None, typer.Option(help="Windows a feature under graded: 60 to screen, 120 to publish.")]
Stop = Annotated[
    str | None,
    typer.Option(help="fixed, or ci: more than 60 windows only where the interval spans the look-up or the null."),
]
Refine = Annotated[
    bool | None, typer.Option("--refine/--no-refine", help="One revision from errors on half of the select part.")
]
Out = Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME by default.")]
Seed = Annotated[int | None, typer.Option(help="Of every random draw.")]
Shard = Annotated[
    str | None, typer.Option(metavar="I/N", help="Only part I, from 0, of N; then the same without it closes.")
]
NTokens = Annotated[int | None, typer.Option(help="Read text until it has this many tokens; all of it by default.")]
Context = Annotated[
    int | None, typer.Option("--context", help="Tokens a row, BOS included; the model's own, at most 1,024.")
]
BatchSize = Annotated[int | None, typer.Option(help="Rows a forward pass; 32 on a GPU, 2,048 tokens' on a CPU.")]
MaxNorm = Annotated[
    float | None, typer.Option(help="Leave out tokens with more than this many times the median norm, such as 10.")
]
LossTokens = Annotated[int | None, typer.Option(help="Tokens to measure losses on; 0 for none.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; auto (the default) takes CUDA if any.")]
Dtype = Annotated[str | None, typer.Option(help="Of the model: auto, float32, bfloat16 or float16.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; 1 is quickest where others use the machine too.")]
Demo = Annotated[bool, typer.Option("--demo", help="Start from the demo's own model, dictionaries and corpus.")]
_SETTINGS = {
    *("model", "hook_point", "corpus", "features", "protocol", "explainer", "simulator", "windows", "stop", "refine"),
    *("llm", "base_url", "cache", "out", "seed", "budget_usd", "budget_tokens", "most_failed", "in_flight"),
    *("timeout", "reasoning_effort", "answer_tokens", "extra_body"),
    *("n_tokens", "context_tokens", "batch_size", "max_norm", "loss_tokens", "device", "dtype", "threads"),
}
"""Parameters of commands that are settings of a run."""
_KEYS = {
    "windows": "score.windows",
    "stop": "score.stop",
    "refine": "explain.refine",
    "most_failed": "endpoint.most_failed",
    "in_flight": "endpoint.in_flight",
    "timeout": "endpoint.timeout_s",
    "reasoning_effort": "endpoint.reasoning_effort",
    "answer_tokens": "endpoint.answer_tokens",
    "extra_body": "endpoint.extra_body",
    "n_tokens": "harvest.n_tokens",
    "context_tokens": "harvest.context",
    "batch_size": "harvest.batch_size",
    "max_norm": "harvest.max_norm",
    "loss_tokens": "harvest.loss_tokens",
    "device": "harvest.device",
    "dtype": "harvest.dtype",
    "threads": "harvest.threads",
}
"""Those that are keys of sections."""
Offline = Annotated[
    bool, typer.Option("--offline", help="Ask nobody: answers come from the reply cache; what it lacks is named.")
]
Probe = Annotated[bool, typer.Option("--probe", help="Ask the endpoint anew what it can do.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be asked, what it costs and which text goes where.")
]
AsJson = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
Run = Annotated[Path, typer.Argument(help="A run's folder.")]


def given_settings(context: typer.Context) -> dict[str, object]:
    """The settings among a command's parameters, under their keys in a configuration."""
    keys = {name: _KEYS.get(name, name) for name in context.params}
    return {keys[name]: value for name, value in context.params.items() if name in _SETTINGS}
