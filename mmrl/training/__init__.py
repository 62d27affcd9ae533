"""The RL stage and the cold start.

`loop.py` the walk: read it first · `collect.py` one step's scored groups · `update.py` one optimiser step ·
`checkpoint.py` what makes a killed run continue · `sft.py` the cold start · `metrics.py` every metric and the log.
"""
