"""Verifiable rewards: what a completion is worth, decided by rules that cannot be fooled, stuck or crashed.

    answer.py     the one extractor: what the policy's answer is
    reward.py     what a catalogue entry is; catalog.py lists them all by name
    choice.py …   one file per kind of answer, each a frozen dataclass of its options called with (completion, sample)
    build.py      plain config values → reward sets per task
    runtime.py    scores groups: in process where time is bounded, in processes that can be killed where it is not
    lint.py       gold, blank, wrong and cheating answers through a reward set, before any GPU time

The contract: what the model writes is scored and never raises; what the data set lacks raises and is never scored.
"""
