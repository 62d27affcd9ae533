"""One builder per kind of source: its options, and the function that reads the source. The table is `catalog.py`."""
