"""Other projects' data sets as manifests: one file per format. The table is `catalog.py`."""
