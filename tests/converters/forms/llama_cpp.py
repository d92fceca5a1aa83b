"""llama.cpp through `cyllama`, where that is installed: an oracle that shares no code with this project."""

import numpy as np
import pytest

REASON = "llama.cpp is asked through cyllama, which is not installed (0.2.18 has a wheel for Python 3.11)"
F32, NO_FLASH = 0, 0


def opened(path):
    """The model of a GGUF file, on the CPU."""
    library = pytest.importorskip("cyllama.llama.llama_cpp", reason=REASON)

    class Model(library.LlamaModel):
        """cyllama 0.2.18 asks a model for `n_vocab`, which only its vocabulary has."""

        @property
        def n_vocab(self):
            return self.get_vocab().n_vocab

    params = library.LlamaModelParams()
    params.n_gpu_layers = 0
    return library, Model(str(path), params)


def logits(path, ids):
    """The logits of each position, (tokens, rows), with keys and values in float32."""
    library, model = opened(path)
    params = library.LlamaContextParams()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.type_k = params.type_v = F32
    params.flash_attn_type, params.n_threads, params.n_threads_batch = NO_FLASH, 1, 1
    context = library.LlamaContext(model, params)
    batch = library.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
    for place, token in enumerate(ids):
        batch.add(token, place, [0], True)
    context.decode(batch)
    return np.array([context.get_logits_ith(place) for place in range(len(ids))])


def tokens(path, text):
    """The ids of a text, with what the file says is put around it."""
    _, model = opened(path)
    return list(model.get_vocab().tokenize(text, True, False))
