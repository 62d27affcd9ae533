"""The credit stage: once per step, without gradient, may compare rollouts with each other.

`part.py` the shapes of the slots · `advantage.py` · `filters.py` · `shaping.py`. How the parts are applied in order is
`mmrl/algorithms/algorithm.py`.
"""
