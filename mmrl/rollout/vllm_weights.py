"""New weights into a running vLLM: under its names, without a copy on disk, and checked the first time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmrl.rollout.weight_check import Fingerprint, differences, fingerprint, probe


def reload(worker: Any, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Run in a vLLM worker: take these weights, named as in the Hugging Face layout.

    A head that is tied to the embeddings is not sent. Where its kernel keeps a copy, as on a CPU, that is made anew.
    """
    runner = worker.model_runner
    runner.reload_weights(weights_iterator=iter(weights))
    model = runner.get_model()
    tied = _tied_heads(model)
    for head, embedding in tied:
        head.weight = embedding.weight
        head.quant_method.process_weights_after_loading(head)


@torch.no_grad()
def mistakes(worker: Any, sent: Mapping[str, Fingerprint], dtype: torch.dtype) -> list[str]:
    """Run in a vLLM worker: what of the weights sent did not arrive where it belongs."""
    model = worker.model_runner.get_model()
    modules = dict(model.named_modules())
    own = dict(model.named_parameters(remove_duplicate=False))
    tied = {id(head): embedding for head, embedding in _tied_heads(model)}
    held: dict[str, Fingerprint] = {}
    for name, parameter in own.items():
        module = modules[name.rpartition(".")[0]]
        computes = name.endswith(".weight") and hasattr(getattr(module, "quant_method", None), "apply")
        product = None
        if computes and (parameter.numel() == 0 or parameter.ndim == 2) and (width := _width(module, parameter)):
            vector = probe(width).to(device=parameter.device, dtype=dtype)
            product = module.quant_method.apply(module, vector[None], None)[0].float().cpu()
        if parameter.numel():
            raw = fingerprint(parameter, dtype)  # some kernels hold biases in float32: the same values, other bits
            held[name] = Fingerprint(count=raw.count, bits=raw.bits, product=product)
        elif product is not None:
            held[name] = Fingerprint(count=0, bits=0, product=product)
    sources, unmapped = _sources(model, sent, own)
    embeddings = {id(modules[name.rpartition(".")[0]]): name for name in own if name in sources}
    for name in held:
        head = modules[name.rpartition(".")[0]]
        if id(head) in tied and name not in sources:
            sources[name] = sources.get(embeddings.get(id(tied[id(head)]), ""), [])
    return differences(sent, sources, held, unmapped=unmapped, dtype=dtype)


def _sources(
    model: Any, sent: Mapping[str, Fingerprint], own: Mapping[str, Any]
) -> tuple[dict[str, list[str]], list[str]]:
    """(engine parameter → names sent that it is made of, names sent that it has no parameter for)."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    packed = {k: v for m in model.modules() for k, v in getattr(m, "packed_modules_mapping", {}).items()}
    joined = {part: (whole, parts.index(part)) for whole, parts in packed.items() for part in parts}
    found: dict[str, list[tuple[int, str]]] = {}
    unmapped = []
    for name in sent:
        mapped = mapper.apply_list([name]) if mapper is not None else [name]
        target = mapped[0] if mapped else ""
        place = 0
        if target not in own:
            stem, _, leaf = target.rpartition(".")
            above, _, last = stem.rpartition(".")
            whole, place = joined.get(last, (last, 0))
            target = f"{above}.{whole}.{leaf}"
        if target in own:
            found.setdefault(target, []).append((place, name))
        else:
            unmapped.append(name)
    return {target: [name for _, name in sorted(parts)] for target, parts in found.items()}, unmapped


def _width(module: Any, parameter: Tensor) -> int:
    """Columns of a layer's matrix, also where the kernel has taken the matrix away."""
    if parameter.ndim == 2:
        return int(parameter.shape[1])
    return int(getattr(module, "input_size_per_partition", 0))


def _tied_heads(model: Any) -> list[tuple[Any, Any]]:
    """Language heads that share the matrix of an embedding, each with that embedding."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    found = []
    for module in model.modules():
        head, inner = getattr(module, "lm_head", None), getattr(module, "model", None)
        embedding = getattr(inner, "embed_tokens", None)
        config = getattr(module, "config", None)
        tied = getattr(config, "tie_word_embeddings", False)
        if tied and isinstance(head, ParallelLMHead) and isinstance(embedding, VocabParallelEmbedding):
            found.append((head, embedding))
    return found
