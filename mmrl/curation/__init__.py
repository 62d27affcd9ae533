"""The data tool's operations: pure functions from samples to samples or figures. Files are the command line's part."""
