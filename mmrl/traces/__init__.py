"""The store of every rollout: what the model saw, what it wrote, what it was paid, and what was left out and why.

    runs/<name>/traces/step_000012.jsonl    one file per step, one line per group

`record.py` has the types, `codec.py` their JSON, `writer.py` and `reader.py` the two ends. None of them needs torch.
"""
