"""The model as mmrl sees it: prompts in, log-probabilities out, every prompt computed once.

`family.py` what differs between architectures · `qwen2_5_vl.py` one family · `render.py` Sample → Prompt ·
`packed.py` groups → packed rows · `policy.py` the module · `repeated.py` the same numbers computed the slow way ·
`tiny.py` a real model small enough for two cores.
"""
