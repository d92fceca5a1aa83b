"""What every family of checkpoints must pass, built in or brought by a plugin, as tests that pytest runs:

    pytest -p golden.conformance.plugin --pyargs golden.conformance --family llama

It needs a hot recipe for the family (`golden.models.hot.RECIPES`, or `hot` of its FAMILY), because a fresh
model hides faults.
"""
