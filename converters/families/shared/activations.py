"""Names of activations: those of `ACT2FN` in transformers 5.23 without parameters, which MixFormer has too."""

from converters.config.kinds import Kind

NAMES = frozenset(
    """
    gelu gelu_10 gelu_accurate gelu_fast gelu_new gelu_python gelu_python_tanh gelu_pytorch_tanh hardswish laplace
    leaky_relu linear mish quick_gelu relu relu2 relu6 sigmoid silu sqrtsoftplus swish tanh
    """.split()
)
ACTIVATIONS = Kind(
    "the name of an activation without parameters", lambda value: isinstance(value, str) and value in NAMES
)
