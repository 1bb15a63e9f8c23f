"""UniAD's attention and dropout, in each of their forms, against PyTorch's."""

import pytest
import torch
from torch import nn

from vla.models.anomaly import attention as module
from vla.models.anomaly.attention import Attention, Dropout, drop


@pytest.fixture
def pair():
    """The attention, and PyTorch's with the same weights."""
    torch.manual_seed(0)
    ours, torchs = Attention(16, 4, 0.25), nn.MultiheadAttention(16, 4, 0.25, batch_first=True)
    nn.init.normal_(ours.in_proj_bias)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_is_pytorchs_attention(pair, monkeypatch, written_out, masked, samples):
    """Weights written out or not; values and gradients; `samples` queries for three samples."""
    ours, torchs = pair
    query, key, value = torch.randn(samples, 5, 16), torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    mask = torch.rand(5, 7) < 0.4 if masked else None
    if masked:
        mask[:, 0] = False
    if written_out:
        monkeypatch.setattr(module, "drop", lambda x, probability: x)
    else:
        ours.eval()
    got = ours(query, key, value, mask)
    expected, _ = torchs.eval()(query.expand(3, 5, 16), key, value, attn_mask=mask)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    for attention, out in ((ours, got), (torchs, expected)):
        out.square().sum().backward()
        assert attention.in_proj_weight.grad is not None
    torch.testing.assert_close(ours.in_proj_weight.grad, torchs.in_proj_weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (64, 101, 33)])
def test_drop_keeps_the_mean_and_what_it_keeps(shape):
    x = torch.randn(shape, requires_grad=True)
    torch.manual_seed(1)
    out = drop(x, 0.25)
    kept = out != 0
    torch.testing.assert_close(out[kept], x[kept] / 0.75)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, kept / 0.75)
    torch.manual_seed(1)
    assert torch.equal(drop(x, 0.25), out)  # the generator of PyTorch decides
    if x.numel() > 1e5:
        assert abs(kept.float().mean() - 0.75) < 0.005
        neighbors = kept.flatten()[1:] & kept.flatten()[:-1]
        assert abs(neighbors.float().mean() - 0.75**2) < 0.005  # entries of one random number are independent


def test_nothing_is_dropped_in_evaluation(pair):
    x = torch.randn(2, 5, 16)
    ours, _ = pair
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(ours.eval()(x, x, x, None), ours(x, x, x, None))
    assert not torch.equal(ours.train()(x, x, x, None), ours(x, x, x, None))


def test_a_query_that_sees_nothing_gives_no_nan(pair):
    """As where a map is no larger than the neighbourhood that a place must not look at."""
    ours, _ = pair
    x = torch.randn(2, 5, 16)
    out = ours(x, x, x, torch.ones(5, 5, dtype=torch.bool))
    torch.testing.assert_close(out, ours.eval()(x, x, x, torch.ones(5, 5, dtype=torch.bool)))
