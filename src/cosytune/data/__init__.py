"""From a folder of recordings to batches: import, ledger, splits, features, sampling.

`manifest`, `results`, `importers`, `splits`, `corpus`, `features` and `sentences` work without torch.
"""
