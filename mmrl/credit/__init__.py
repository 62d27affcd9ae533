"""The credit stage: once per step, without gradient, may compare rollouts with each other.

    part.py               the shapes of the slots, and what a part may know of its step: read it first
    shaping.py            bonuses added to rewards        consistency.py   GRPO-CARE's, on answer_span.py's tokens
    filters.py            which groups and rollouts       advantage.py     against a group's or the step's baseline
    absolute.py           against none                    beta_normalized.py, value_tracker.py   BNPO's, SPO's
    asymmetric.py         APO's two parts                 group_weight.py  by answers, variance, step
    token_advantage.py    from rollouts to tokens         token_weight.py, conflict.py   which tokens count

How parts are applied in order is `mmrl/algorithms/algorithm.py`; every part by name is `mmrl/algorithms/catalog.py`.
"""
