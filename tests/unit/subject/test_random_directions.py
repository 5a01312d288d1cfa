"""Random directions at another dictionary's densities."""

import pytest
import torch

from autointerp.subject import random_directions as module
from autointerp.subject.dictionaries import NeuronBasis, load_dictionary
from autointerp.subject.random_directions import random_directions
from autointerp.subject.sae import Sae
from tests.unit.subject.test_agreement import FIXTURES


def test_random_directions_match_densities() -> None:
    """Every feature of the control is active on exactly as many rows as the feature it stands beside."""
    like = load_dictionary(FIXTURES / "saelens" / "topk" / "checkpoint")
    assert isinstance(like, Sae)
    x = torch.randn(4000, 16, generator=torch.Generator().manual_seed(1))
    control = random_directions(like, x, seed=0)
    aims, got = ((dictionary.encode(x) != 0).sum(dim=0) for dictionary in (like, control))
    reachable = aims < 1800
    assert reachable.sum() > 50
    assert (aims - got)[reachable].abs().max() <= 2
    assert control.kind == "random directions, jumprelu"
    torch.testing.assert_close(control.decoder_directions().norm(dim=1), torch.ones(64))


def test_rows_that_say_the_same_are_on_one_side() -> None:
    """Repeated text ties; a threshold on a tie was decided by rounding, and with it by the batch."""
    like = load_dictionary(FIXTURES / "saelens" / "topk" / "checkpoint")
    assert isinstance(like, Sae)
    generator = torch.Generator().manual_seed(1)
    different = torch.randn(300, 16, generator=generator)
    x = different[torch.randint(300, (3000,), generator=generator)]
    control = random_directions(like, x, seed=0)
    again = control.encode(x * (1 + 1e-7 * torch.randn(x.shape, generator=generator)))
    assert ((control.encode(x) != 0) == (again != 0)).all()
    aims, got = ((dictionary.encode(x) != 0).sum(dim=0) for dictionary in (like, control))
    assert (got[aims > 0] > 0).all()
    assert (aims - got)[aims < 1200].abs().max() <= 10  # half of a text that is there twenty times


def test_random_directions_are_seeded() -> None:
    like = load_dictionary(FIXTURES / "saelens" / "topk" / "checkpoint")
    assert isinstance(like, Sae)
    x = torch.randn(200, 16)
    one, same, other = (random_directions(like, x, seed).weights_digest for seed in (1, 1, 2))
    assert one == same != other


def test_a_dead_feature_stays_dead() -> None:
    like = load_dictionary(FIXTURES / "saelens" / "jumprelu" / "checkpoint")
    assert isinstance(like, Sae)
    like.b_enc[7] = -1e6
    x = torch.randn(500, 16)
    control = random_directions(like, x, seed=0)
    assert int((control.encode(x)[:, 7] != 0).sum()) == 0


def test_what_is_no_sae_has_a_control_too() -> None:
    """Densities come from codes alone; asking for weights would leave neurons and users' objects without a control."""
    x = torch.randn(3000, 64, generator=torch.Generator().manual_seed(1))
    like = NeuronBasis("blocks.0.hook_resid_post", 64)
    control = random_directions(like, x, seed=3)
    aims, got = ((dictionary.encode(x) != 0).sum(dim=0) for dictionary in (like, control))
    assert (aims - got)[aims < 1000].abs().max() <= 2
    assert (control.d_in, control.d_sae, control.hook_out) == (64, 64, like.hook_point)


def test_chunks_of_features_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by taking few features at a time; a chunk's first feature must meet its own count."""
    like = load_dictionary(FIXTURES / "saelens" / "topk" / "checkpoint")
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(1))
    whole = random_directions(like, x, seed=0)
    monkeypatch.setattr(module, "rows_a_chunk", lambda width, device: 7)
    few = random_directions(like, x, seed=0)
    assert ((whole.encode(x) != 0).sum(dim=0) - (few.encode(x) != 0).sum(dim=0)).abs().max() <= 1


def test_a_feature_active_everywhere_is_met_as_far_as_can_be() -> None:
    """Beyond either end of the rows there is no value to lie between; the index wrapped round to the other end."""
    like = NeuronBasis("blocks.0.hook_resid_post", 4)
    x = torch.rand(50, 4) + 0.5
    control = random_directions(like, x, seed=0)
    assert ((like.encode(x) != 0).sum(dim=0) == 50).all()
    active = (control.encode(x) != 0).sum(dim=0)
    assert ((active > 10) & (active < 50)).all()
