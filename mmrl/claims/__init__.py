"""Papers' claims tried in miniature: arms × seeds from the same cold start, and a verdict by a rule written before.

`schema.py` what a claim's file says · `load.py` reading and checking it · `configs.py` the run config of every stage
· `runner.py` in which order, resumable · `unit.py` one arm of one seed · `spent.py` what it cost · `measure.py` numbers
of a run folder · `verdict.py` the rule · `results.py` what is stored · `table.py`, `plot.py` what is shown.
"""
