"""Pages in the browser: `inspector/` shows what a run wrote, `demo/` asks a model; `shared/` is what both are made of.

Handlers are plain functions from values to values and know no browser; `app.py` of each page lays out the controls and
wires them. Gradio is imported in those two files and in `shared/serving.py` only.
"""
