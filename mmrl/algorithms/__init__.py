"""The learners: `algorithm.py` has the slots, one file per published variant, `catalog.py` the table of names.

To add one: a file of 15–50 lines that ends in `replace(GRPO, …)`, with the paper, the formula and what differs, and a
line in `catalog.py`. Every invariant in `tests/algorithms/` then runs over it by itself.
"""
