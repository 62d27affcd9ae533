"""The data tool's operations, each as a function from manifests on disk to a manifest, a page or figures on disk.

A manifest of a million rows never lies in memory: rows are read in shards by worker processes (`shards.py`,
`workers.py`), what a verb must know of all rows are a few numbers a row (`scan.py`), and what stays is copied in a
second pass (`transfer.py`). Inputs are never changed, outputs appear whole or not at all, and every row that is left
out is listed with file, line and reason. The same input gives the same bytes, with any number of workers.
"""
