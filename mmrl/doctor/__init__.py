"""What this machine can run: checks that are made apart from each other, each in a process that can be killed.

`catalog.py` is the list of them, `examine.py` makes them, `worker.py` is the process; one file per kind of check.
"""
