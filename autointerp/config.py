"""What a run is asked to do: TOML, then environment, then flags, checked once into a `RunConfig`.

Text flows in, a frozen configuration or a `UsageError` that names the key flows out. Knows no model and opens no
file but the TOML.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from autointerp.addresses import check_base_url
from autointerp.endpoint_config import EndpointConfig, Section
from autointerp.errors import UsageError, near_matches
from autointerp.records import Role
from autointerp.settings import (
    DATA_SET_PREFIX,
    DICTIONARY_ID,
    ENVIRONMENT_PREFIX,
    NEURON_PREFIXES,
    RANDOM_PREFIX,
    encodes,
    from_environment,
    is_too_long,
    merge,
    name_and_split,
    nested_flags,
    read_toml,
    with_ids,
)

ProtocolName = Literal["graded", "simulate"]
ExplainerName = Literal["lookup", "tsv"]
SimulatorName = Literal["lookup", "top-logprobs", "structured", "prompt-logprobs"]
DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
KeepName = Literal["all", "sample"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

NOT_UTF8 = "is not UTF-8, so that no run can keep it; rename it"
ID_RULE = "an id has at most 64 characters, of a-z, 0-9, '.', '_' and '-', the first a letter or a digit"
_FEATURES = re.compile(r"all|@.+|(sample|matched):[1-9][0-9]*|[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")


class DictionaryConfig(Section):
    """One dictionary to harvest."""

    id: Annotated[str, Field(pattern=rf"^{DICTIONARY_ID.pattern}$")]
    """Its name in the run; after the last part of its path, where absent."""
    path: Annotated[str, Field(min_length=1)]
    """A folder or file with weights, `neurons@HOOK`, or `random@ID`: random directions of that dictionary's density."""
    hook_point: str | None = None
    """Where it reads, whatever its files say; the run's `hook_point` is only for dictionaries whose files do not."""
    center_input: bool | None = None
    """Whether each input's mean is subtracted first (for centred writing weights); as its files say, where absent."""
    role: Role
    """`basis` for neurons, `control` for random directions and `trained` for everything else, where absent."""
    rerandomise_seed: int | None = None
    """For a control: the model under it is redrawn from this seed when it is harvested."""

    @model_validator(mode="before")
    @classmethod
    def _default_role(cls, values: Any) -> Any:
        if isinstance(values, dict) and "role" not in values:
            path = str(values.get("path", ""))
            kinds = {"basis": path.startswith(NEURON_PREFIXES), "control": path.startswith(RANDOM_PREFIX)}
            return {**values, "role": next((role for role, fits in kinds.items() if fits), "trained")}
        return values

    @property
    def like(self) -> str | None:
        """The dictionary whose densities its random directions have; None where it is no `random@ID`."""
        return self.path.removeprefix(RANDOM_PREFIX) if self.path.startswith(RANDOM_PREFIX) else None

    @model_validator(mode="after")
    def _only_controls_redraw(self) -> Self:
        if self.rerandomise_seed is not None and self.role != "control":
            raise ValueError(f'dictionary {self.id}: rerandomise_seed belongs to role = "control"')
        return self


class HarvestConfig(Section):
    """How the corpus is run through the model."""

    context: Annotated[int, Field(ge=8)] | None = None
    """Tokens a row, BOS included; the model's own context, at most 1,024, where absent."""
    prepend_bos: bool | None = None
    """Start every row with BOS; where absent, as the dictionaries' files say, else yes where the tokenizer has one."""
    bos_token: Annotated[str, Field(min_length=1)] | None = None
    """The token that is BOS, such as `<|endoftext|>`, where the tokenizer names none or another."""
    text_column: Annotated[str, Field(min_length=1)] = "text"
    """Where JSON lines, tables and data sets hold their text; `OUTER.INNER` inside a structure."""
    n_tokens: Annotated[int, Field(ge=1)] | None = None
    """Sources are read until they have this many tokens, the last one whole; all of the corpus where absent."""
    pack: bool = False
    """Fill a row with several short documents, none of which sees another."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows a forward pass; where absent, 32 on a GPU, and on a CPU as many as 2,048 tokens fill."""
    shard_tokens: Annotated[int, Field(ge=1024, le=2**30)] = 2**20
    """Token slots a shard; a pass resumes at the last finished shard."""
    keep: KeepName = "all"
    """`all` events; or `sample`, those of some documents and of each feature's strongest windows, for large corpora."""
    keep_tokens: Annotated[int, Field(ge=1024)] = 2**22
    """With `sample`: tokens of the documents whose events are all kept; statistics still count every token."""
    keep_strongest: Annotated[int, Field(ge=1, le=64)] = 2
    """With `sample`: windows of 64 tokens kept beside them, for each feature and shard."""
    skip_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens at the start of each document, after BOS, that are left out."""
    special_tokens: bool = False
    """Whether special tokens inside the text are harvested; BOS and padding never are."""
    max_norm: Annotated[float, Field(gt=1)] | None = None
    """Leave out tokens whose activations' norm is more than this many times the median norm, such as 10."""
    loss_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens to measure losses with each dictionary on, 0 for none; 16,384, on a CPU at most a quarter of the work."""
    device: DeviceName = "auto"
    """`cpu`, `cuda`, `cuda:1` or `mps`; `auto` takes CUDA where it is there."""
    dtype: DtypeName = "auto"
    """Of the model; `auto` is bfloat16 on CUDA where the card has it, else float32. Dictionaries stay in float32."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 leaves torch's own choice."""


class ExplainConfig(Section):
    """How explanations are made."""

    candidates: Annotated[int, Field(ge=1, le=50)] = 1
    """Explanations asked for; the best on the select part is kept."""
    refine: bool = False
    """Show the explanation its errors on half of the select part; a revision that is better on the rest is kept."""


class ScoreConfig(Section):
    """How explanations are scored under `graded`."""

    windows: Literal[60, 120] = 60
    """Windows a feature: 60 to screen, 120 to publish; the 60 are among the 120."""
    stop: Literal["fixed", "ci"] = "fixed"
    """`ci`: from 60 windows on, more, up to 120, only where the interval spans the look-up baseline or the null."""
    guided: Annotated[int, Field(ge=0, le=50)] = 10
    """Silent windows looked for by the explanation's own words, for false positives beside the score; 0 for none."""
    interval: Literal["jackknife", "bca"] = "jackknife"
    """How intervals over windows are made; the jackknife covered better on planted features, and costs less."""


class RunConfig(Section):
    """Everything one run does; a run folder holds its copy."""

    model: str = ""
    """A Hugging Face folder, or a name that TransformerLens knows."""
    hook_point: str | None = None
    """Where dictionaries that name no hook point read."""
    dictionary: Annotated[tuple[DictionaryConfig, ...], Field(min_length=1)]
    corpus: str = ""
    """`python-docs`, a `.txt`, `.jsonl` or `.parquet` file, a folder of such, or `hf:NAME[/CONFIG][:SPLIT]`."""
    records: Path | None = None
    """Bare records in the place of model and corpus; set by `autointerp import`."""
    features: str = "sample:500"
    """`all`, `0-999,7`, `@file`, `sample:N` (spread over density), or `matched:N` (pairs of several dictionaries)."""
    protocol: ProtocolName = "graded"
    """How windows are chosen, shown, asked and scored."""
    explainer: ExplainerName | None = None
    """`tsv` with a language model and `lookup` without, where absent."""
    simulator: SimulatorName | None = None
    """What the endpoint can do with a language model and `lookup` without, where absent."""
    llm: str | None = None
    """`provider:name` or `name` of the model that explains and simulates; none for the look-up path."""
    base_url: str | None = None
    """The OpenAI-compatible endpoint; `OPENAI_BASE_URL`, else the provider's own, where absent."""
    cache: Path | None = None
    """The reply cache; one per user where absent."""
    prices: Path | None = None
    """A table of prices like the package's `llm/prices.toml`, which wins over it."""
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    """Stop before the call that could make the run cost more than this many US dollars."""
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    """Stop before the call that could make the run take more than this many tokens, input and output."""
    out: Path
    """The run's folder."""
    seed: int = 0
    """Of every random draw."""
    harvest: HarvestConfig = HarvestConfig()
    endpoint: EndpointConfig = EndpointConfig()
    explain: ExplainConfig = ExplainConfig()
    score: ScoreConfig = ScoreConfig()

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, url: str | None) -> str | None:
        return url if url is None else check_base_url(url)

    @field_validator("cache")
    @classmethod
    def _from_anywhere(cls, path: Path | None) -> Path | None:
        """As it lies from here: a run keeps it, and may be gone on with from another place."""
        return path if path is None else Path(os.path.abspath(path.expanduser()))

    @property
    def explainer_name(self) -> ExplainerName:
        """The explainer in force."""
        return self.explainer or ("tsv" if self.llm else "lookup")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        missing = [key for key in ("model", "dictionary", "corpus") if isinstance(values, dict) and not values.get(key)]
        if missing and not values.get("records"):
            flags = " and ".join(f"--{key}" for key in missing)
            raise ValueError(f"{', '.join(missing)} missing; give {flags}, or set them in a configuration file")
        return values

    @model_validator(mode="after")
    def _sound(self) -> Self:
        ids = [d.id for d in self.dictionary]
        twice = {i for i in ids if ids.count(i) > 1}
        if twice:
            raise ValueError(f"two dictionaries are called {', '.join(sorted(twice))}; give each an id of its own")
        for d in self.dictionary:
            self._check_like(d)
        for path in (self.model, self.corpus, str(self.out), *(d.path for d in self.dictionary)):
            if not encodes(path):
                raise ValueError(f"the name {path!r} {NOT_UTF8}")
            if is_too_long(path):
                raise ValueError(f"{path[:40]}… ({len(path):,} characters) is too long a name for a file; shorten it")
        if self.llm is None and {self.explainer, self.simulator} - {None, "lookup"}:
            raise ValueError("that explainer or simulator asks a language model; name one with --llm MODEL")
        if self.explain.refine and self.explainer_name == "lookup":
            raise ValueError("refine asks a language model to revise; name one with --llm MODEL, or leave refine out")
        if not _FEATURES.fullmatch(self.features):
            raise ValueError(f"features {self.features!r} is none of: all, 0-999,7, @file, sample:500, matched:200")
        return self

    def _check_like(self, asked: DictionaryConfig) -> None:
        """Random directions stand beside a dictionary of this run that is on the same weights and is none itself."""
        if asked.like is None:
            return
        others = {d.id: d for d in self.dictionary if d.like is None}
        if asked.like not in others:
            raise ValueError(
                f"{asked.path} names no dictionary of this run that has weights of its own; "
                f"it can be one of: {', '.join(RANDOM_PREFIX + i for i in others) or 'none'}"
            )
        seed = others[asked.like].rerandomise_seed
        if asked.rerandomise_seed != seed:
            wanted = "no rerandomise_seed" if seed is None else f"rerandomise_seed = {seed}"
            raise ValueError(f"{asked.path} is harvested on the model of {asked.like}; give {asked.id} {wanted}")


def make_config(toml: Path | None, flags: Mapping[str, object], default_out: str | None = None) -> RunConfig:
    """The configuration from a TOML file (or none), the environment, and flags, later ones winning.

    Relative `model`, `corpus` and dictionary paths in the TOML are relative to its folder, where they exist there.
    Dictionaries given as flags replace the file's; a flag `section.key` is one of a section.
    """
    values: dict[str, Any] = read_toml(toml) if toml else {}
    environment = from_environment(os.environ)
    merge(values, environment)
    merge(values, nested_flags(flags))
    if isinstance(values.get("dictionary"), list):
        values["dictionary"] = with_ids(values["dictionary"])
    if "out" not in values and default_out is not None:
        values["out"] = default_out
    variables = f" (with {ENVIRONMENT_PREFIX}… variables)" if environment else ""
    return check_config(values, (str(toml) if toml else "the command line") + variables)


def change_config(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """A run's configuration with some keys, or keys of sections as `section.key`, set anew; None leaves one alone.

    What the environment says of a run is among the changes (`settings.with_environment`).
    """
    values = config.model_dump()
    merge(values, nested_flags(changes))
    return check_config(values, "the changes asked for")


def check_config(values: Mapping[str, object], where: str) -> RunConfig:
    """Validate plain values; the first trouble becomes one sentence."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error)}") from None


def parse_dictionary(spec: str) -> dict[str, object]:
    """`[ID=]SPEC` of the command line as the values of one `[[dictionary]]`.

    What stands before the first `=` is part of the path where such a path exists, or where it can be that of a
    repository (`ORG/NAME/K=32`) or an id of SAELens' registry (`RELEASE:K=32`).

    Raises:
        UsageError: it can be no path, and what stands before the first `=` can be no id.
    """
    name, equals, path = spec.partition("=")
    if not equals or os.path.exists(os.path.expanduser(spec)) or name.count("/") > 1 or ":" in name:
        return {"path": spec}
    if not DICTIONARY_ID.fullmatch(name):
        raise UsageError(f"there is no file or folder {spec}, and {name!r} can be no dictionary's id: {ID_RULE}")
    return {"path": path, "id": name}


class DataSetName(NamedTuple):
    """What `hf:NAME[/CONFIG][:SPLIT]` names."""

    name: str
    """`OWNER/NAME` on the hub, or a folder."""
    config: str | None
    split: str | None

    def __str__(self) -> str:
        return DATA_SET_PREFIX + self.name + (f"/{self.config}" if self.config else "") + self._split

    @property
    def _split(self) -> str:
        return f":{self.split}" if self.split else ""


def parse_data_set(corpus: str) -> DataSetName | None:
    """The data set that a corpus names; None where it is none.

    Raises:
        UsageError: it has the prefix of a data set and no name, or names a folder that is not there.
    """
    if not corpus.startswith(DATA_SET_PREFIX):
        return None
    name, split = name_and_split(corpus.removeprefix(DATA_SET_PREFIX))
    parts = name.split("/")
    if name and os.path.exists(name):
        return DataSetName(name, None, split or None)
    if name.startswith(("/", "./", "../", "~")):
        raise UsageError(f"there is no folder {name} to read as the data set {corpus}; check its path")
    if not all(parts):
        raise UsageError(
            f"the corpus {corpus!r} is not of the form hf:OWNER/NAME[/CONFIG][:SPLIT] or hf:FOLDER[:SPLIT]"
        )
    if len(parts) < 3:
        return DataSetName(name, None, split or None)
    return DataSetName("/".join(parts[:2]), "/".join(parts[2:]), split or None)


class HarvestPart(NamedTuple):
    """One of several equal parts of a harvest, each made by a process of its own."""

    number: int
    """From 0."""
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_part(text: str) -> HarvestPart:
    """`0/3` to `2/3` of the command line.

    Raises:
        UsageError: it is no part.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    part = HarvestPart(int(match[1]), int(match[2])) if match else HarvestPart(0, 0)
    if part.number >= part.of:
        raise UsageError(f"--shard {text} is no part of a harvest; with 3 of them they are 0/3, 1/3 and 2/3")
    return part


def choices(literal: object) -> tuple[str, ...]:
    """The names in one of this module's Literals."""
    return get_args(literal)


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}; did you mean one of: {near_matches(str(first['loc'][-1]), _keys(first['loc']))}"
    if first["type"] == "missing":
        return f"{place!r} is missing; give --{place.replace('_', '-')} or set it in the configuration file"
    if first["type"] == "string_pattern_mismatch" and first["loc"][-1] == "id":
        return f"{place!r}: {first['input']!r} can be no dictionary's id: {ID_RULE}"
    if first["type"] == "string_unicode":
        return f"{place!r}: the name {first['input']!r} {NOT_UTF8}"
    if first["type"] == "value_error":
        return str(first["msg"]).removeprefix("Value error, ")
    return f"{place!r}: {first['msg']}"


def _keys(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "dictionary": DictionaryConfig,
        "harvest": HarvestConfig,
        "endpoint": EndpointConfig,
        "explain": ExplainConfig,
        "score": ScoreConfig,
    }
    return list(sections.get(str(location[0]) if len(location) > 1 else "", RunConfig).model_fields)
