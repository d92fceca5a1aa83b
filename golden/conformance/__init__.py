"""Tests that every family must pass, whether it is built in or comes from a plug-in. pytest runs them:

    pytest -p golden.conformance.plugin --pyargs golden.conformance --family llama

They need a hot model of the family: a tiny model whose every weight matters. A freshly initialised model hides faults,
because its norms are one and its biases zero. The sizes are in `golden.models.hot.RECIPES`, or in `hot` of its FAMILY.
"""
