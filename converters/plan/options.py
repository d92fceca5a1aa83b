"""The options of a plan."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Requests that change what a plan makes.

    waive: unknown fields of config.json that are ignored. drop_buffers: leave out stored buffers that a formula gives,
    whatever values they have. pad_vocab: the vocabulary of ours is padded to a multiple of this. own_head: config.json
    says tied, but the head was found to differ from the embedding. dtype: floating-point tensors are cast to it.
    dequantize: quantised tensors are converted to float32. n_head: what the user says, where the source does not say
    it. trained: tensors that the source did not store, because all of their values were equal, have other values now.
    drop: patterns of keys of tensors that are no part of the model. crop_vocab: rows of the vocabulary that are kept.
    pad_low: padded rows of a head's bias get a very low value. qkv_shards: what the user says of a CodeGen.
    value_residual: what the user says of an nGPT of lucidrains. bake: its matrices are stored as they are
    used, divided by their lengths.
    """

    waive: tuple[str, ...] = ()
    drop_buffers: bool = False
    pad_vocab: int | None = None
    own_head: bool = False
    dtype: str | None = None
    dequantize: bool = False
    n_head: int | None = None
    trained: bool = False
    drop: tuple[str, ...] = ()
    crop_vocab: int | None = None
    pad_low: bool = False
    qkv_shards: int | None = None
    value_residual: bool | None = None
    bake: bool = False


DEFAULTS = Options()
