"""What measuring losses costs beside the pass, in work, so that it can be bounded and foretold before it is done.

A subject and dictionaries flow in; numbers of tokens and shares of the pass's work flow out. Work is multiplications,
counted, not timed: the same harvest measures the same tokens on every machine.
"""

import os
from collections.abc import Sequence

import torch

from autointerp.harvest.encode import Reader
from autointerp.harvest.tokens import Corpus
from autointerp.subject.model import Subject

MOST_TOKENS = 2**14
LEAST_TOKENS = 2**9
MOST_OF_PASS = 0.25
"""On a CPU losses take at most this part of the pass's work; fewer tokens than `LEAST_TOKENS` say nothing."""
SMALL_WORK = 5e11
"""Some ten seconds of one core: below it nothing is bounded."""


def loss_tokens_for(asked: int | None, subject: Subject, readers: Sequence[Reader], corpus: Corpus) -> int:
    """Tokens to measure losses on: as asked, else 16,384; on a CPU fewer where that took over a quarter of the pass.

    No fewer than take some ten seconds, and no fewer than 512.
    """
    if asked is not None:
        return asked
    if subject.device.type != "cpu" or not readers:
        return MOST_TOKENS
    share = MOST_OF_PASS * corpus.n_tokens * _harvesting(subject, readers)
    fitting = int(max(share, SMALL_WORK) / _measuring(subject, readers))
    return min(max(fitting, LEAST_TOKENS), MOST_TOKENS)


def busy_advice(threads: int, device: str) -> tuple[str, str] | None:
    """That others use the processor, and what loses least then; None on a GPU, with one thread, or where they do not.

    Threads that wait for each other at every step wait for the slowest, which is the one that shares its core.
    """
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if device != "cpu" or (threads or torch.get_num_threads()) == 1 or load < 0.75 * cores:
        return None
    return (
        f"{load:.1f} processes already want the {cores} cores",
        "[harvest] threads = 1 loses least then",
    )


def loss_groups(readers: Sequence[Reader]) -> list[list[Reader]]:
    """Readers whose losses share the model's own: those that read and write at the same hook points."""
    groups: dict[tuple[str, str], list[Reader]] = {}
    for reader in readers:
        groups.setdefault((reader.spec.hook_point, reader.dictionary.hook_out), []).append(reader)
    return list(groups.values())


def work_a_token(subject: Subject, readers: Sequence[Reader]) -> float:
    """Work of measuring losses on one token, in that of harvesting one: whole forward passes against one cut short."""
    return _measuring(subject, readers) / max(_harvesting(subject, readers), 1.0)


def _measuring(subject: Subject, readers: Sequence[Reader]) -> float:
    whole = sum((3 + len(group)) * subject.work_until(None) for group in loss_groups(readers))
    return whole + len(loss_groups(readers)) * _cut(subject, readers) + _encoding(readers)


def _harvesting(subject: Subject, readers: Sequence[Reader]) -> float:
    return _cut(subject, readers) + _encoding(readers)


def _cut(subject: Subject, readers: Sequence[Reader]) -> float:
    return subject.work_until({hook for r in readers for hook in (r.spec.hook_point, r.dictionary.hook_out)})


def _encoding(readers: Sequence[Reader]) -> float:
    return float(sum(r.spec.d_in * r.spec.d_sae for r in readers if not r.spec.kind.startswith("neurons")))
