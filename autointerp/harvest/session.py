"""The GPU side from names to finished harvests: load the model, tokenise the corpus, run each pass.

A configuration flows in; finished dictionary folders come out. Dictionaries on the same weights share one pass; a
control whose model is redrawn has its own.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from autointerp.config import DictionaryConfig, HarvestPart, RunConfig
from autointerp.errors import UsageError
from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.controls import draw_control
from autointerp.harvest.effort import busy_advice, loss_tokens_for
from autointerp.harvest.encode import Reader
from autointerp.harvest.norms import measure_medians
from autointerp.harvest.plan import PassSettings, read_plan
from autointerp.harvest.run import open_pass, run_pass
from autointerp.harvest.sample import draw_documents
from autointerp.harvest.tokenise import Encoding, Progress, write_corpus
from autointerp.harvest.tokens import KEPT, Corpus
from autointerp.provenance import package_versions
from autointerp.records import DictionarySpec
from autointerp.resources import bundled
from autointerp.settings import NEURON_PREFIXES, PYTHON_DOCS, RANDOM_PREFIX
from autointerp.subject.corpus.files import corpus_name, open_sources
from autointerp.subject.devices import choose_device, choose_dtype, on_device, release_memory, room_for
from autointerp.subject.dictionaries import Dictionary, load_dictionary
from autointerp.subject.fit import check_fit, place
from autointerp.subject.model import Subject, load_model
from autointerp.subject.packing import check_packing
from autointerp.subject.products import Products
from autointerp.subject.tails import BothTails

_FREE_SOME = "free some and start it again"
MOST_CONTEXT = 1024
TOKENS_A_BATCH_ON_CPU = 2048
ROWS_A_BATCH_ON_GPU = 32


class PartWork(NamedTuple):
    """Which part of a harvest this process makes, and how it takes turns with the others."""

    part: HarvestPart | None
    """None for all of it."""
    turn: Callable[[], AbstractContextManager[None]]
    """What all parts need is written inside; one of them is at a time."""


WHOLE = PartWork(None, contextlib.nullcontext)


def harvest_dictionaries(
    harvest: Path,
    config: RunConfig,
    missing: Sequence[DictionaryConfig],
    cache: Path,
    progress: Progress,
    note: Callable[[str], None],
    work: PartWork = WHOLE,
) -> None:
    """Harvest the missing dictionaries of a run, or one part of them that other processes complete.

    Raises:
        UsageError: model, dictionary, corpus or hook point cannot be used together, or the disk is too small.
        RunError: an activation is NaN or infinite.
    """
    device = choose_device(config.harvest.device)
    dtype = _dtype(harvest, config, device, note)
    for seed in dict.fromkeys(d.rerandomise_seed for d in missing):
        with _threads(config.harvest.threads), on_device(device):
            _harvest_on(seed, device, dtype, harvest, config, missing, cache, progress, note, work)
            release_memory(device)  # before the next model, or what else the device is to do


def _harvest_on(
    seed: int | None,
    device: str,
    dtype: str,
    harvest: Path,
    config: RunConfig,
    missing: Sequence[DictionaryConfig],
    cache: Path,
    progress: Progress,
    note: Callable[[str], None],
    work: PartWork,
) -> None:
    """The pass of the dictionaries on one model; nothing holds the model when it is over."""
    loading = f"load {Path(config.model).name}"
    progress(loading, 0, 1)
    busy = busy_advice(config.harvest.threads, device)
    if busy is not None:
        note("; ".join(busy))
    bos_token = config.harvest.bos_token
    subject = load_model(config.model, device=device, dtype=dtype, rerandomise_seed=seed, bos_token=bos_token)
    progress(loading, 1, 1)
    loaded: list[tuple[DictionaryConfig, Dictionary]] = []
    for d in missing:
        progress("load dictionaries", len(loaded), len(missing))
        loaded.append((d, load_asked(config, d, subject)))
    remarks = {d.id: check_fit(subject, dictionary) for d, dictionary in loaded}
    progress("load dictionaries", len(loaded), len(missing))
    group = [(d, dictionary) for d, dictionary in loaded if d.rerandomise_seed == seed]
    with work.turn():
        everything = [dictionary for _, dictionary in loaded]
        corpus = _corpus(harvest, config, subject, everything, cache, progress, note)
    readers = []
    for d, dictionary in group:
        for remark in remarks[d.id]:
            note(f"{d.id}: {remark}")
        if d.like is not None:
            with room_for(f"random directions like {d.like}", _FREE_SOME):
                dictionary = draw_control(subject, corpus, dictionary, config.seed, d.id, progress)
        readers.append(_reader(harvest, d, dictionary, subject))
    with work.turn():
        if config.harvest.max_norm is not None:
            readers = _limited(readers, config.harvest.max_norm, subject, corpus, progress)
        asked = _settings(config, corpus, device, dtype, work.part)
        loss_tokens = loss_tokens_for(config.harvest.loss_tokens, subject, readers, corpus)
        progress("try one batch", 0, 1)
        readers, settings = open_pass(subject, readers, corpus, asked, note, loss_tokens)
        progress("try one batch", 1, 1)
    run_pass(subject, readers, corpus, settings, progress, loss_tokens, note)


def load_asked(config: RunConfig, asked: DictionaryConfig, subject: Subject) -> Dictionary:
    """One dictionary of a run's configuration; the two tails of a signed one are two features.

    Of random directions it is the dictionary whose densities they take.
    """
    if asked.like is not None:
        asked = next(d for d in config.dictionary if d.id == asked.like)
    dictionary = load_dictionary(
        asked.path,
        hook_point=asked.hook_point,
        width_at=subject.width_at,
        center_input=asked.center_input,
        default_hook_point=config.hook_point,
    )
    dictionary = place(subject, dictionary)
    return BothTails(dictionary) if dictionary.signed else dictionary


@contextlib.contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batch_size(corpus: Corpus, device: str) -> int:
    """Rows a forward pass; on a CPU more of them run at half the speed, their memory being new each time."""
    return max(1, TOKENS_A_BATCH_ON_CPU // corpus.context) if device == "cpu" else ROWS_A_BATCH_ON_GPU


def _dtype(harvest: Path, config: RunConfig, device: str, note: Callable[[str], None]) -> str:
    """The model's precision; where it is left open, that of what is begun in this folder."""
    plans = sorted(harvest.glob("*/plan.json")) if config.harvest.dtype == "auto" else []
    if plans:
        return str(read_plan(plans[0])["dtype"])
    dtype = choose_dtype(config.harvest.dtype, device)
    if config.harvest.dtype == "auto" and dtype != "float32":
        note(f'the model runs in {dtype} on {device}; set [harvest] dtype = "float32" for twice the precision and time')
    return dtype


def _settings(config: RunConfig, corpus: Corpus, device: str, dtype: str, part: HarvestPart | None) -> PassSettings:
    products = Products.fitting(device, dtype)
    return PassSettings(
        batch_size=config.harvest.batch_size or _batch_size(corpus, device),
        shard_rows=max(1, config.harvest.shard_tokens // corpus.context),
        device=device,
        dtype=dtype,
        precision=products.precision,
        dense_limit=products.dense_limit,
        threads=config.harvest.threads or torch.get_num_threads(),
        keep=config.harvest.keep,
        keep_tokens=config.harvest.keep_tokens if corpus.kept is not None else 0,
        keep_strongest=config.harvest.keep_strongest if corpus.kept is not None else 0,
        skip_tokens=config.harvest.skip_tokens,
        special_tokens=config.harvest.special_tokens,
        max_norm=config.harvest.max_norm,
        part=part,
    )


def _reader(harvest: Path, asked: DictionaryConfig, dictionary: Dictionary, subject: Subject) -> Reader:
    spec = DictionarySpec(
        id=asked.id,
        role=asked.role,
        model=subject.digest,
        hook_point=dictionary.hook_point,
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        kind=dictionary.kind,
        source=asked.path if asked.path.startswith((*NEURON_PREFIXES, RANDOM_PREFIX)) else Path(asked.path).name,
        weights_digest=dictionary.weights_digest,
        rerandomise_seed=asked.rerandomise_seed,
    )
    with room_for(f"the dictionary {asked.id}", f"harvest fewer dictionaries at once, or {_FREE_SOME}"):
        moved = dictionary.to(subject.device)
    return Reader(spec, moved, harvest / asked.id)


def _limited(
    readers: Sequence[Reader], max_norm: float, subject: Subject, corpus: Corpus, progress: Progress
) -> list[Reader]:
    """The readers knowing what is too large a norm; each hook point is measured once.

    Not where an earlier start has measured, whose plan holds.
    """
    new = [r for r in readers if not (r.folder / "plan.json").is_file()]
    hooks = sorted({hook for r in new for hook in (r.spec.hook_point, r.dictionary.hook_out)})
    with room_for("the norms of activations", _FREE_SOME):
        medians = measure_medians(subject, corpus, hooks, progress) if hooks else {}
    found = []
    for reader in readers:
        median, out = medians.get(reader.spec.hook_point), medians.get(reader.dictionary.hook_out)
        limit = max_norm * median if median and reader in new else None
        found.append(replace(reader, norm_limit=limit, median_norm=median, median_norm_out=out))
    return found


def _corpus(
    harvest: Path,
    config: RunConfig,
    subject: Subject,
    dictionaries: Sequence[Dictionary],
    cache: Path,
    progress: Progress,
    note: Callable[[str], None],
) -> Corpus:
    """The run's tokens, written once; every later pass must tokenise alike."""
    bos = _bos(config, subject, dictionaries)
    encoding = Encoding(
        encode=subject.encode_text,
        vocabulary=tuple(subject.vocabulary()),
        bos=bos,
        pad=bos if bos is not None else 0,
        context=config.harvest.context or min(subject.n_ctx, MOST_CONTEXT),
        pack=config.harvest.pack,
    )
    if encoding.context > subject.n_ctx:
        raise UsageError(
            f"context {encoding.context} is longer than the model's own {subject.n_ctx}; lower [harvest] context"
        )
    if encoding.pack:
        check_packing(
            subject, sorted({hook for d in dictionaries for hook in (d.hook_point, d.hook_out)}), encoding.context
        )
    corpus = write_corpus(
        harvest,
        corpus_name(config.corpus),
        lambda: open_sources(config.corpus, cache, config.harvest.text_column),
        encoding,
        progress,
        note,
        config.harvest.n_tokens,
    )
    made = (corpus.context, corpus.first, corpus.packed)
    if made != (encoding.context, int(bos is not None), encoding.pack):
        raise UsageError(
            f"{harvest} was tokenised with context {corpus.context}, {'a' if corpus.first else 'no'} BOS and "
            f"{'packed' if corpus.packed else 'unpacked'} rows, which these dictionaries or settings do not want; "
            f"choose another --out for them"
        )
    if config.corpus == PYTHON_DOCS:
        _compare_with_demo(corpus, note)
    return _with_kept_documents(harvest, config, corpus)


def _with_kept_documents(harvest: Path, config: RunConfig, corpus: Corpus) -> Corpus:
    """The corpus knowing which documents are kept: one choice for all dictionaries of a run, made before any plan."""
    asked = config.harvest.keep, config.harvest.keep_tokens if config.harvest.keep == "sample" else 0
    plans = sorted(harvest.glob("*/plan.json"))
    for path in plans:
        plan = read_plan(path)
        if (plan["keep"], plan["keep_tokens"]) != asked:
            raise UsageError(
                f"{path.parent} was harvested with keep = {plan['keep']!r} and keep_tokens = {plan['keep_tokens']}; "
                f"all dictionaries of a run keep the same documents, so set [harvest] to that, or choose another --out"
            )
    path = corpus.folder / KEPT
    if config.harvest.keep == "all":
        path.unlink(missing_ok=True)
    elif not plans or not path.is_file():
        save_arrays(path, {"document": draw_documents(corpus, config.harvest.keep_tokens)})
    return Corpus.open_whole(harvest)


def _bos(config: RunConfig, subject: Subject, dictionaries: Sequence[Dictionary]) -> int | None:
    """The id that starts every row, or None: as configured, else as the dictionaries' files say, else BOS if any."""
    asked = {d.prepend_bos for d in dictionaries if d.prepend_bos is not None}
    wanted = config.harvest.prepend_bos
    if wanted is None and len(asked) > 1:
        raise UsageError(
            "some dictionaries were trained with BOS and others without; set [harvest] prepend_bos, or run them apart"
        )
    if wanted is None:
        wanted = asked.pop() if asked else subject.bos_token_id is not None
    if wanted and subject.bos_token_id is None:
        raise UsageError(
            f"rows should start with BOS but the tokenizer of {config.model} has none; set prepend_bos = false, or "
            "name the token in [harvest] bos_token"
        )
    return subject.bos_token_id if wanted else None


def _compare_with_demo(corpus: Corpus, note: Callable[[str], None]) -> None:
    path = bundled("demo") / "corpus.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if known and known["digest"] != corpus.digest:
        note(
            f"python-docs of Python {package_versions()['python']} is {corpus.digest}, not the text behind the figures "
            f"in data/README.md (Python {known['python']}): figures will differ a little"
        )
