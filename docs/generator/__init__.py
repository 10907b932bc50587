"""Fills the generated parts of the README and of docs/ from the committed records and the code.

`python -m docs.generator` writes them, `python -m docs.generator --check` only says which differ.
"""
