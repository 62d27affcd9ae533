"""What is asked besides the policy's own rollouts of a sample: `part.py` the two slots, `views.py` altered twins of a
prompt, `demonstrations.py` completions that the policy did not write. Carried out by `training/planned.py`.
"""
