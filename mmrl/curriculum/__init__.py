"""Which samples a step asks about: `sampler.py` the edge, `catalog.py` the table, one file per policy of choosing."""
