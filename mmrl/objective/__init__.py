"""The objective stage: differentiable, per row. Whatever compares rows with each other belongs to credit.

`part.py` the shapes of the slots · `ratio.py` · `surrogate.py` · `divergence.py` · `aggregation.py`. How they are
combined is `mmrl/algorithms/algorithm.py`.
"""
