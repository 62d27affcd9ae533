"""The trace inspector: what the policy wrote beside what it saw and what it was paid for.

`inspector.py` opens runs; a `*_page.py` per tab turns values into HTML; `app.py` lays the controls out and wires them.
"""
