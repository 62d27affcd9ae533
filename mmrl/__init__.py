"""mmrl: reinforcement learning with verifiable rewards for vision-language models.

Importing the package is cheap: nothing heavy is loaded until it is used. Start reading at `mmrl/types.py` and
`mmrl/training/loop.py`.
"""

__version__ = "0.1.0"
