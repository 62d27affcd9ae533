"""What a run will take, before anything is loaded: memory by part and seconds of a step by part (`mmrl plan`).

`predict.py` puts it together: `prompts.py` says how large prompts are, `step.py` what a step consists of,
`rehearsal.py` does one on tensors without memory (`weightless.py`) and keeps count (`ledger.py`), `memory.py` says
what all that holds, `work.py` what it computes, `device.py` how fast a machine is, `probe.py` measures the one this
is, `remedies.py` says what to change.
"""
