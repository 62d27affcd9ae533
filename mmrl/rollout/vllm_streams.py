"""Both log-probabilities of a sampled token from vLLM, which offers one: of the distribution drawn from, or of the raw.

`keep_both` puts a sampler around vLLM's. Where a request asks for one log-probability beside the sampled token's, it
gets the sampled token's raw one, under the id of a token that is never sampled. Nothing else about sampling changes.
Log-probabilities are gathered here, since vLLM's own gathering is compiled at its first use (20 s on CPU).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class BothStreams(nn.Module):
    """vLLM's sampler (v1), whose second log-probability is the sampled token's before bans, temperature and cuts."""

    def __init__(self, sampler: nn.Module, marker: int) -> None:
        super().__init__()
        self._sampler = sampler
        self._marker = marker
        cast(Any, sampler).gather_logprobs = _gather

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_sampler"), name)

    def forward(self, logits: Tensor, *args: Any, **kwargs: Any) -> Any:
        raw = logits.log_softmax(dim=-1, dtype=torch.float32)  # [B, V]; vLLM's sampler works in place
        output = self._sampler(logits, *args, **kwargs)
        found = output.logprobs_tensors
        if found is not None:
            sampled = output.sampled_token_ids[:, :1].long()
            output.logprobs_tensors = found._replace(
                logprob_token_ids=torch.cat([sampled, torch.full_like(sampled, self._marker)], 1).to(torch.int32),
                logprobs=torch.cat([found.logprobs[:, :1], raw.gather(-1, sampled)], 1),
            )
        return output


def keep_both(worker: Any, marker: int) -> None:
    """Run in a vLLM worker: install the sampler. `marker`: an id that is never sampled."""
    runner = worker.model_runner
    sampler = runner.sampler
    if not isinstance(sampler, nn.Module) or not hasattr(sampler, "gather_logprobs"):
        from mmrl.errors import RunError

        raise RunError(
            f"vLLM's sampler here is {type(sampler).__module__}.{type(sampler).__name__}, which mmrl does not know how "
            "to ask for both log-probabilities. Set VLLM_USE_V2_MODEL_RUNNER=0, or install a vLLM this was tried with."
        )
    runner.sampler = BothStreams(sampler, marker)


def _gather(logprobs: Tensor, num_logprobs: int, token_ids: Tensor) -> Any:
    """The sampled token's log-probability alone; ranks are not computed."""
    from vllm.v1.outputs import LogprobsTensors

    ids = token_ids.unsqueeze(-1)
    return LogprobsTensors(ids.to(torch.int32), logprobs.gather(-1, ids), torch.zeros_like(token_ids))
