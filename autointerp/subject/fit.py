"""Whether a dictionary fits a model, before anything runs.

A `Subject` and a `Dictionary` flow in; an error, or remarks on what will differ from the dictionary's training, flow
out. Runs a few tokens through the model, nothing more.
"""

from dataclasses import replace

from autointerp.errors import UsageError
from autointerp.subject.custom import CustomDictionary
from autointerp.subject.dictionaries import Dictionary, Sae
from autointerp.subject.model import Subject
from autointerp.subject.neurons import NeuronBasis


def place(subject: Subject, dictionary: Dictionary) -> Dictionary:
    """The dictionary reading and writing where its names for places are in this model, under their usual names.

    Raises:
        UsageError: the model has no such place.
    """
    if not isinstance(dictionary, Sae | CustomDictionary):
        return dictionary
    try:
        hook_point = subject.place(dictionary.hook_point)
    except UsageError as error:
        raise UsageError(f"{error}; name the right one as hook_point in its [[dictionary]] of a TOML") from None
    return replace(dictionary, hook_point=hook_point, hook_out=subject.place(dictionary.hook_out))


def _likely(token: str | None) -> str:
    return f", under TransformerLens {token!r}" if token else ""


def check_fit(subject: Subject, dictionary: Dictionary) -> list[str]:
    """Remarks, each one sentence with its consequence; none where all is well.

    Raises:
        UsageError: where it reads or writes does not exist, its width is not the dictionary's, or the dictionary wants
            centred inputs from a model whose norms do not centre.
    """
    width = subject.width_at(dictionary.hook_point)
    if width != dictionary.d_in:
        raise UsageError(
            f"the dictionary reads width {dictionary.d_in}, but {dictionary.hook_point} of {subject.name} has width "
            f"{width}; it was trained on another model or hook point, so give the right one"
        )
    if dictionary.hook_out != dictionary.hook_point:
        subject.check_hook_point(dictionary.hook_out)
    if isinstance(dictionary, Sae) and dictionary.center_input and not subject.centres:
        raise UsageError(
            f"the dictionary wants its inputs centred, but {subject.name} has RMS norms, where centring changes what "
            "the model computes; set center_input = false for it"
        )
    remarks = list(dictionary.notes)
    if dictionary.prepend_bos and subject.bos_token_id is None:
        remarks.append(
            "the dictionary was trained with a beginning-of-sequence token, which the tokenizer of "
            f"{subject.name} lacks, so activations near the start of a document differ from its training; name the "
            f"token that stood there in [harvest] bos_token{_likely(subject.eos_token)}"
        )
    if isinstance(dictionary, NeuronBasis) and not dictionary.both_tails and subject.has_gated_mlps:
        remarks.append(
            f"the MLPs of {subject.name} are gated, so that half of a neuron's signal is negative, which neurons@ "
            f"leaves out; neurons-both@{dictionary.hook_point} takes both"
        )
    return remarks
