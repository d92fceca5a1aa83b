"""Broken, hostile and contradictory native files: each refused with a sentence that says what and where."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from converters.checkpoint.gguf_header import TYPES, read_gguf
from converters.checkpoint.opening import open_checkpoint
from converters.errors import ConfigRefused, ConversionError, Refused, UnsafeFile, UsageError
from converters.plan.plan import make_plan

INNER = {"intermediate_size": 64}
QUANTISABLE = {"hidden_size": 64, "head_dim": 8, "intermediate_size": 96}  # rows of whole blocks


@pytest.fixture
def meta(hot_llama, writers, tmp_path):
    """Meta's shards for two ranks."""
    return writers["meta"](hot_llama(**INNER), tmp_path / "meta", ranks=2)


def params(folder: Path, **changes: object) -> None:
    """Changes params.json; None takes a field away."""
    path = folder / "params.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def shard(folder: Path, rank: int, **changes: torch.Tensor | None) -> None:
    """Changes tensors of a shard; None takes one away."""
    path = folder / f"consolidated.{rank:02d}.pth"
    content = {**torch.load(path), **changes}
    torch.save({k: v for k, v in content.items() if v is not None}, path)


def refusal(source: Path, **options: object) -> str:
    """The sentence with which a plan is refused, notes and all."""
    with pytest.raises(Refused) as caught:
        make_plan(source, **options)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_shards_of_unequal_degree(meta, hot_llama, writers, tmp_path):
    other = writers["meta"](hot_llama(**INNER), tmp_path / "four", ranks=4)
    shutil.copy(other / "consolidated.01.pth", meta / "consolidated.01.pth")
    said = refusal(meta)
    assert "expected shards of one model-parallel size" in said and "consolidated.01.pth" in said


def test_a_missing_shard(hot_llama, writers, tmp_path):
    four = writers["meta"](hot_llama(**INNER), tmp_path / "four", ranks=4)
    (four / "consolidated.02.pth").unlink()
    assert "expected one shard for each rank" in refusal(four)
    (four / "consolidated.03.pth").unlink()
    said = refusal(four)
    assert "tok_embeddings.weight has 12 columns in each of 2 shards" in said and "dim 48" in said


def test_a_missing_shard_of_a_model_cut_by_rows(hot_llama, writers, tmp_path):
    four = writers["meta"](hot_llama(**INNER), tmp_path / "four", ranks=4, by_rows=True)
    for rank in (2, 3):
        (four / f"consolidated.{rank:02d}.pth").unlink()
    assert "has 24 rows in 2 shards, params.json says dim 48" in refusal(four)


def test_a_key_that_one_shard_lacks(meta):
    shard(meta, 1, **{"norm.weight": None})
    said = refusal(meta)
    assert "norm.weight is in consolidated.00.pth and not in consolidated.01.pth" in said


def test_norms_that_differ_between_ranks(meta, tmp_path):
    from converters import convert

    shard(meta, 1, **{"norm.weight": torch.zeros(48)})
    with pytest.raises(Refused, match=r"consolidated\.01\.pth: 01\.norm\.weight: copies of one tensor should be equal"):
        convert(meta, output=tmp_path / "ours")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 96}, "params.json says dim 96"),
        ({"model_parallel": 7}, "model_parallel 7, which the shards tell"),
        ({"tie_word_embeddings": True}, "which the shards tell"),
        ({"model_type": "x"}, "which the shards tell"),
        ({"multiple_of": 32, "ffn_dim_multiplier": 0.7}, "feed_forward"),
        ({"n_layers": 4}, "layers.3.attention.wk.weight"),
        ({"n_layers": 2}, "layers.2.attention.wk.weight"),
        ({"n_layers": 10**9}, "layers"),
        ({"n_heads": 5}, "n_heads 5"),
        ({"n_heads": None}, "n_heads None"),
        ({"n_heads": True}, "n_heads True"),
        ({"n_kv_heads": 8}, "attention.wk.weight"),
        ({"n_kv_heads": 3}, "n_head_kv 3"),
        ({"vocab_size": 400}, "vocab"),
        ({"multiple_of": 0}, "multiple_of is 0"),
        ({"ffn_dim_multiplier": -1.0}, "ffn_dim_multiplier is -1.0"),
        ({"norm_eps": "1e-5"}, "norm_eps is '1e-5'"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"use_scaled_rope": "yes"}, "use_scaled_rope"),
        ({"moe": {"num_experts": 8}}, "moe"),
        ({"quantization_args": {}}, "quantization_args"),
    ],
    ids=str,
)
def test_params_that_contradict_the_shapes(changes, words, meta):
    params(meta, **changes)
    said = refusal(meta)
    assert words in said and "params.json" in said


def test_params_that_are_no_object(meta):
    for text in ("[]", "{", '{"dim": 1, "dim": 2}', "{" * 100_000):
        (meta / "params.json").write_text(text)
        assert "params.json" in refusal(meta)


def test_a_shard_with_code_runs_nothing(meta, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    torch.save({"norm.weight": Hostile()}, meta / "consolidated.01.pth")
    assert "posix.system" in refusal(meta)
    (meta / "consolidated.01.pth").write_bytes(pickle.dumps(Hostile()))
    assert refusal(meta)
    assert not (tmp_path / "owned").exists()


def test_a_stale_rotary_table(meta, tmp_path):
    from converters import convert
    from converters.conversion import Request
    from converters.plan.options import Options

    for rank in range(2):
        shard(meta, rank, **{"rope.freqs": torch.tensor([1.0, 0.5, 0.1])})
    assert "--drop-buffers" in refusal(meta)
    convert(meta, output=tmp_path / "ours", request=Request(Options(drop_buffers=True)))
    right = 1 / 10000 ** (torch.arange(0, 6, 2).float() / 6)
    for rank in range(2):
        shard(meta, rank, **{"rope.freqs": right.half()})
    ours = convert(meta, output=tmp_path / "again").output
    back = make_plan(ours, to="llama-meta")
    assert {"rope.freqs", "01.rope.freqs"} <= {tensor.key for tensor in back.tensors}


@pytest.fixture
def small_gguf(hot_llama, writers, tmp_path):
    """A GGUF of a LLaMA."""
    return writers["gguf"](hot_llama(), tmp_path / "model.gguf")


def test_every_type_has_the_sizes_of_the_gguf_package():
    for number, (name, block, width) in TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert kind.name == name and gguf.constants.GGML_QUANT_SIZES[kind] == (block, width)


def test_a_quantised_gguf_names_its_remedy(hot_llama, writers, tmp_path):
    source = writers["gguf"](hot_llama(**QUANTISABLE), tmp_path / "q.gguf", kind="Q8_0")
    said = refusal(source)
    assert "quantised (Q8_0)" in said and "--dequantize" in said and "token_embd.weight" in said


def test_an_unknown_quantisation(small_gguf):
    data = bytearray(small_gguf.read_bytes())
    at = data.index(b"blk.0.ffn_up.weight") + len(b"blk.0.ffn_up.weight") + 4 + 2 * 8
    data[at : at + 4] = (99).to_bytes(4, "little")
    small_gguf.write_bytes(data)
    said = refusal(small_gguf)
    assert "'blk.0.ffn_up.weight' is of type 99" in said and "Q4_K" in said


@pytest.mark.parametrize("version", [0, 1, 4, 0x03000000])
def test_other_versions_of_gguf(version, small_gguf):
    data = bytearray(small_gguf.read_bytes())
    data[4:8] = version.to_bytes(4, "little")
    small_gguf.write_bytes(data)
    assert ("big-endian" if version > 4 else f"version {version}") in refusal(small_gguf)


@pytest.mark.parametrize("keep", [5, 20, 100, 2000, 20_000, -4])
def test_truncated_ggufs(keep, small_gguf):
    small_gguf.write_bytes(small_gguf.read_bytes()[:keep])
    assert "not a valid GGUF" in refusal(small_gguf)


@pytest.mark.parametrize("claim", [2**63, 2**40, 2**20 + 1])
@pytest.mark.parametrize("at", [8, 16])
def test_ggufs_that_claim_too_much(claim, at, small_gguf):
    data = bytearray(small_gguf.read_bytes())
    data[at : at + 8] = claim.to_bytes(8, "little")
    small_gguf.write_bytes(data)
    assert refusal(small_gguf)


def written(path: Path, *edits: object, architecture: str = "llama") -> Path:
    """A GGUF with metadata of our choice and one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    for edit in edits:
        edit(writer)
    writer.add_tensor("token_embd.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_other_architectures(tmp_path):
    said = refusal(written(tmp_path / "x.gguf", architecture="qwen2"))
    assert "'qwen2'" in said and "expected llama or gpt2" in said


def test_a_part_of_a_gguf(tmp_path):
    said = refusal(written(tmp_path / "x.gguf", lambda w: w.add_uint16("split.count", 3)))
    assert "--merge" in said


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda w: w.add_uint32("llama.expert_count", 8), "expert_count"),
        (lambda w: w.add_float32("llama.attention.scale", 0.5), "llama.attention.scale"),
        (lambda w: w.add_uint32("llama.attention.sliding_window", 100), "sliding_window"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE), "longrope"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "yarn"),
        (lambda w: w.add_vocab_size(1000), "vocab"),
        (lambda w: w.add_uint32("llama.attention.value_length", 7), "expected one value"),
        (lambda w: w.add_array("llama.attention.head_count_kv", [1, 2, 3]), "head_count_kv"),
        (lambda w: w.add_float32("llama.rope.freq_base", float("nan")), "freq_base"),
        (lambda w: w.add_string("something.else", "x"), "something.else"),
    ],
    ids=["experts", "scale", "window", "longrope", "yarn", "vocabulary", "value length", "heads", "base", "other"],
)
def test_metadata_that_no_rule_accounts_for(edit, words, hot_llama, writers, tmp_path):
    def changed(writer):
        for entries in writer.kv_data:
            for name in ("llama.attention.value_length", "llama.attention.head_count_kv", "llama.rope.freq_base"):
                entries.pop(name, None) if name in words or words in name or words == "expected one value" else None
        edit(writer)

    assert words in refusal(writers["gguf"](hot_llama(), tmp_path / "x.gguf", edit=changed))


def test_overlapping_tensors(small_gguf):
    header = read_gguf(small_gguf)
    data = bytearray(small_gguf.read_bytes())
    start = min(tensor.begin for tensor in header.tensors)
    name = b"blk.0.ffn_up.weight"
    at = data.index(name) + len(name) + 4 + 2 * 8 + 4
    assert int.from_bytes(data[at : at + 8], "little") + start in {tensor.begin for tensor in header.tensors}
    data[at : at + 8] = (0).to_bytes(8, "little")
    small_gguf.write_bytes(data)
    assert "overlap" in refusal(small_gguf)


def test_several_models_in_one_folder(hot_llama, writers, tmp_path):
    writers["gguf"](hot_llama(), tmp_path / "m" / "a.gguf")
    writers["llama2c"](hot_llama(), tmp_path / "m" / "b.bin")
    with pytest.raises(Refused) as caught:
        open_checkpoint(tmp_path / "m")
    assert (
        "a.gguf" in str(caught.value) and "b.bin" in str(caught.value) and "give the path of one" in str(caught.value)
    )
    assert open_checkpoint(tmp_path / "m" / "b.bin").config["model_type"] == "llama2c"


def test_a_folder_of_transformers_comes_first(hot_llama, writers, tmp_path):
    shutil.copytree(hot_llama(), tmp_path / "m")
    writers["llama2c"](hot_llama(), tmp_path / "m" / "b.bin")
    assert open_checkpoint(tmp_path / "m").config["model_type"] == "llama"


@pytest.fixture
def bin_file(hot_llama, writers, tmp_path):
    """A llama2.c file of version 0."""
    return writers["llama2c"](hot_llama(), tmp_path / "model.bin")


@pytest.mark.parametrize("change", [-4, -1, 4, 1000])
def test_llama2c_files_of_another_size(change, bin_file):
    data = bin_file.read_bytes()
    bin_file.write_bytes(data[:change] if change < 0 else data + bytes(change))
    said = refusal(bin_file)
    assert "by its header" in said and "dim 48" in said


def test_a_quantised_llama2c_file(bin_file):
    bin_file.write_bytes(struct.pack("<Ii", 0x616B3432, 2) + bytes(400))
    assert "int8" in refusal(bin_file)
    bin_file.write_bytes(struct.pack("<Ii", 0x616B3432, 7) + bytes(400))
    assert "version 7" in refusal(bin_file)


def test_wrong_rotary_tables_in_a_llama2c_file(bin_file, hot_llama):
    data = bytearray(bin_file.read_bytes())
    checkpoint = open_checkpoint(bin_file)
    at = checkpoint.tensors["freqs_sin"].begin + 4 * 100
    data[at : at + 4] = struct.pack("<f", 0.123)
    bin_file.write_bytes(data)
    said = refusal(bin_file)
    assert "freqs_sin[33, 1] is 0.123" in said and "--drop-buffers" in said


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 28, b"\xff" * 100, b"PK\x03\x04" + b"\0" * 60, b"GGUFjunk"])
def test_files_of_no_form(content, tmp_path):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ConversionError) as caught:
        open_checkpoint(tmp_path / "x.bin")
    assert isinstance(caught.value, Refused if content[:4] in (b"GGUF", b"PK\x03\x04") else UsageError)
    assert "x.bin" in str(caught.value)


@pytest.fixture
def ckpt(writers, tmp_path):
    """A ckpt.pt of nanoGPT."""
    return writers["nanogpt"](tmp_path / "ckpt.pt")


def saved(path: Path, **changes: object) -> None:
    """Changes entries of a ckpt.pt; None takes one away."""
    content = {**torch.load(path), **changes}
    torch.save({k: v for k, v in content.items() if v is not None}, path)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"n_layer": 4}, "transformer.h.3"),
        ({"n_layer": "3"}, "n_layer is '3'"),
        ({"n_head": 7}, "n_head 7"),
        ({"bias": True}, "bias"),
        ({"bias": 1}, "bias is 1"),
        ({"block_size": 99}, "wpe.weight"),
        ({"vocab_size": 332}, "vocab_size = 332"),
        ({"dropout": 2.0}, "dropout is 2.0"),
        ({"n_kv_head": 2}, "n_kv_head"),
        ({"n_layer": [3]}, "n_layer"),
    ],
    ids=str,
)
def test_model_args_that_contradict_the_tensors(args, words, ckpt):
    saved(ckpt, model_args={**torch.load(ckpt)["model_args"], **args})
    assert words in refusal(ckpt)


def test_a_head_of_its_own_in_nanogpt(ckpt, tmp_path):
    from converters import convert

    saved(ckpt, model={**torch.load(ckpt)["model"], "lm_head.weight": torch.zeros(331, 40)})
    with pytest.raises(Refused, match="head and embedding are one tensor"):
        convert(ckpt, output=tmp_path / "ours")


def test_a_ckpt_without_its_parts(ckpt):
    model = torch.load(ckpt)["model"]
    saved(ckpt, model=None)
    assert "`model`" in refusal(ckpt)
    saved(ckpt, model={})
    assert "without tensors" in refusal(ckpt)
    saved(ckpt, model=model, model_args=[1, 2])
    assert "`model_args`" in refusal(ckpt)
    saved(ckpt, model={**model, "more": [1, 2]})
    assert "'more': list" in refusal(ckpt)


def test_a_ckpt_with_code_runs_nothing(ckpt, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    content = torch.load(ckpt)
    torch.save({**content, "config": Hostile()}, ckpt)
    assert "posix.system" in refusal(ckpt)
    assert not (tmp_path / "owned").exists()


def test_other_torch_files_are_no_checkpoints_of_nanogpt(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(ConfigRefused, match=r"a state dict \(first key: a\).*put a config\.json beside it"):
        open_checkpoint(tmp_path / "x.pt")


def test_a_ckpt_that_is_cut_short_is_named_as_that(ckpt):
    ckpt.write_bytes(ckpt.read_bytes()[:3000])
    for source in (ckpt, ckpt.parent):
        with pytest.raises(UnsafeFile, match=r"ckpt\.pt has the name of nanoGPT's"):
            open_checkpoint(source)
