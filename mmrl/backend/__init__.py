"""Who holds the weights and takes optimiser steps: `backend.py` the edge, `torch_backend.py` one process."""
