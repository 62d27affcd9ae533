"""How good a model is, with the same engines and rewards as training, and no gradients.

`estimators.py` has the statistics, `result.py` what an evaluation found, `evaluate.py` the evaluation itself,
`compare.py` two models on the same samples, `table.py` the tables people read.
"""
