"""Benchmarks with averages or scoring rules of their own.

`vsi_bench.py` and `seed_bench_r1.py` also average what mmrl's rewards made of a manifest (`averages.py`); `catalog.py`
has the rules by which stored predictions are scored as the benchmarks' own code does (`mmrl eval --predictions`).
"""
