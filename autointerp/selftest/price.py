"""What a protocol asks of a language model for one score: requests and input tokens, counted on real requests.

A design flows in; calls and tokens flow out. The project's own simulator renders its requests for windows of stand-in
words, and tokens are counted by the pieces of these texts.
"""

import asyncio

from autointerp.interpret.simulate_llm import StructuredSimulator
from autointerp.llm.base import ChatReply, ChatRequest
from autointerp.llm.fakes import FunctionModel
from autointerp.llm.token_estimate import estimate_input
from autointerp.records import Explanation, FeatureId, Usage, Window
from autointerp.selftest.samplers import BenchDesign

WORD = " words"
TEXT = "the name of a Python module where a sentence tells the reader to import it, in prose and not in code"


def price_of(design: BenchDesign) -> tuple[int, int]:
    """Calls and input tokens of one explanation's score where every answer can be read at once.

    A protocol that scores every token of several windows in one request is priced as one longer window a request.
    """
    window = Window((WORD,) * design.width, design.width // 2)
    if design.n_scored > 1:
        window = Window((WORD,) * (design.width * design.windows_per_request), None)
    n = design.n_windows if design.n_scored == 1 else design.n_windows // design.windows_per_request
    model = FunctionModel(_refuse)
    explanation = Explanation(
        feature=FeatureId(dictionary="selftest", index=0), text=TEXT, author="human", method="human", examples_digest=""
    )
    asyncio.run(StructuredSimulator(model).simulate(explanation, [window] * n))
    return len(model.asked), sum(estimate_input(request) for request in model.asked)


def _refuse(request: ChatRequest) -> ChatReply:
    """A refusal is never asked again, so requests are counted once."""
    return ChatReply(text="", finish_reason="stop", refused=True, model="none", usage=Usage())
