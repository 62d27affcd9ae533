"""The objective stage: differentiable, per row. Whatever compares rows with each other belongs to credit, or is a
coupling: compared once per update, then linear per row.

`part.py` the shapes of the slots · `ratio.py` · `surrogate.py` · `divergence.py` · `regularizer.py` · `coupling.py` ·
`aggregation.py`. How they are combined is `mmrl/algorithms/algorithm.py`.
"""
