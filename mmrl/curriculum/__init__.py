"""Which samples a step asks about: `sampler.py` the edge, one file per policy of choosing."""
