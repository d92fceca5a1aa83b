"""What may be asked of a plan."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Requests that change what a plan makes.

    waive: fields of config.json that may be ignored although no rule knows them. drop_buffers: stored buffers that a
    formula gives are left out, whatever they hold. pad_vocab: rows of the vocabulary in ours become a multiple of this.
    own_head: the head of a model that says it is tied was found to differ from the embedding. dtype: floating tensors
    are cast to this one. dequantize: quantised tensors are turned into float32. n_head: a user's word where the source
    does not say it. trained: tensors that theirs did not store, as they had one constant value, have others now.
    """

    waive: tuple[str, ...] = ()
    drop_buffers: bool = False
    pad_vocab: int | None = None
    own_head: bool = False
    dtype: str | None = None
    dequantize: bool = False
    n_head: int | None = None
    trained: bool = False


DEFAULTS = Options()
