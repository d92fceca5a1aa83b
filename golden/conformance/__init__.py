"""Tests that every family must pass, whether it is built in or comes from a plug-in. pytest runs them:

    pytest -p golden.conformance.plugin --pyargs golden.conformance --family llama

They need a hot model of the family: a tiny model of which every weight matters. A freshly initialised model hides
faults, because its norms are one and its biases zero. `hot` of a FAMILY says which model it is and what is varied;
for built-in families `golden.models.hot_recipes` does.
"""
