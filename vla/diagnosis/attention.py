"""Attention back ends and process groups, each tried on small tensors: listed is not the same as working."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from vla.overwatch.findings import Finding

SECTION = "Attention and communication"
_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
_SHAPE = (2, 4, 64, 64)  # batch, heads, tokens, width
_TOLERANCE = 0.05  # bf16 has 8 bits; values are of order 1


def check() -> Iterator[Finding]:
    """What scaled_dot_product_attention runs on here, and whether processes can talk to each other."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield _attention(device)
    yield _flex(device)
    yield _group("gloo", "cpu")
    if device == "cuda":
        yield _group("nccl", "cuda")


def working_backends(device: str, dtype: torch.dtype, mask: bool) -> list[str]:
    """Names of the back ends that give the right values for `dtype` on `device`, with or without a mask."""
    torch_generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(_SHAPE, generator=torch_generator).to(device, dtype) for _ in range(3))
    bias = torch.zeros(_SHAPE[2], _SHAPE[2], device=device, dtype=dtype) if mask else None
    wanted = _by_hand(query, key, value)
    found = []
    for name, backend in _BACKENDS.items():
        try:
            with sdpa_kernel(backend), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they say why a back end does not apply
                given = scaled_dot_product_attention(query, key, value, attn_mask=bias)
        except RuntimeError:
            continue
        if torch.allclose(given.float(), wanted, atol=_TOLERANCE):
            found.append(name)
    return found


def _by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query.float() @ key.float().transpose(-1, -2) / query.shape[-1] ** 0.5
    return scores.softmax(dim=-1) @ value.float()


def _attention(device: str) -> Finding:
    """Of bf16, which training uses by default, and fp32; with a mask, which packed and padded batches have."""
    kinds = [
        ("bf16", torch.bfloat16, False),
        ("bf16 with a mask", torch.bfloat16, True),
        ("fp32", torch.float32, False),
    ]
    found = {name: working_backends(device, dtype, mask) for name, dtype, mask in kinds}
    detail = "; ".join(f"{name}: {', '.join(names) or 'none'}" for name, names in found.items())
    detail = f"on {device.replace('cuda', 'CUDA').replace('cpu', 'the CPU')}, {detail}"
    if not all(found.values()):
        return Finding("attention", "broken", detail, "this torch computes wrong values: install another", SECTION)
    if device == "cuda" and set(found["bf16"]) == {"math"}:
        advice = "attention will need memory for all pairs of tokens: a newer GPU or torch has fused kernels"
        return Finding("attention", "warning", detail, advice, SECTION)
    return Finding("attention", "ok", detail, section=SECTION)


def _flex(device: str) -> Finding:
    """FlexAttention gives packed sequences a block mask; it is tried without compiling."""
    try:
        from torch.nn.attention.flex_attention import flex_attention

        query = torch.ones(1, 1, 16, 16, device=device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flex_attention(query, query, query)
    except Exception as error:  # of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding("flex attention", "note", f"does not work here: {reason}", "nothing needs it", SECTION)
    return Finding("flex attention", "ok", "works", section=SECTION)


def _group(backend: str, device: str) -> Finding:
    """A process group of one process, and a sum in it."""
    name = {"gloo": "gloo", "nccl": "NCCL"}[backend]
    if not dist.is_backend_available(backend):
        advice = "training in several processes needs it: install a torch that has it"
        return Finding(name, "warning", "is not part of this torch", advice, SECTION)
    if dist.is_initialized():
        return Finding(name, "note", "was not tried: this process is in a group already", section=SECTION)
    try:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        value = torch.ones(1, device=device)
        dist.all_reduce(value)
        works = value.item() == 1.0
    except Exception as error:  # no network interface, a host name that leads nowhere, a driver that does not fit
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        variable = "GLOO_SOCKET_IFNAME" if backend == "gloo" else "NCCL_SOCKET_IFNAME (NCCL_DEBUG=INFO says more)"
        advice = f"name a network interface that works in {variable}; one process needs none"
        return Finding(name, "warning", f"no process group: {reason}", advice, SECTION)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    detail = f"works{f', version {_nccl_version()}' if backend == 'nccl' else ''}"
    if not works:
        return Finding(name, "warning", "a sum over processes is wrong", "install another torch", SECTION)
    return Finding(name, "ok", detail, section=SECTION)


def _nccl_version() -> str:
    return ".".join(map(str, torch.cuda.nccl.version()))
