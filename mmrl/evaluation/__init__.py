"""How good a model is, with the same engines and rewards as training, and no gradients.

`evaluate.py` the evaluation itself, `measures.py` what is measured besides accuracy, `likelihood.py` consistency by a
reference model, `estimators.py` the statistics, `summary.py` rows → figures, `result.py` what an evaluation found,
`compare.py` two models on the same samples, `table.py` the tables people read. `completion_store.py` and
`stored_engine.py` keep what was generated, so that nothing is generated twice. `benchmarks/` has public benchmarks' own
averages and scoring rules, `predictions.py` applies them to stored predictions.
"""
