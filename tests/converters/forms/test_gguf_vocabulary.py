"""Tokenizers in GGUF files that are written: transformers and llama.cpp make the tokens of tokenizer.json."""

import json
import shutil

import gguf
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from converters import convert
from converters.conversion import Request
from converters.errors import TokenizerRefused
from converters.forms.gguf_vocabulary import vocabulary_of
from converters.forms.tokenizer_splits import LLAMA3

ROWS = 332
TEXTS = [
    "the rain in the plain falls mainly on the plain, 1987 times and 23 more",
    "  two spaces, a tab\tand a\nnew line; don't, we'll, I'M",
    "Grüße aus Köln! 東京 🙂 ∑ x² ≤ 10000",
]
CORPUS = [*TEXTS, *(word for text in TEXTS for word in text.split())] * 3
SPECIAL = ["<s>", "</s>"]
GGUF = Request(native=True)


def byte_level(*before, ignore_merges=False, use_regex=True):
    """A byte-level BPE; `before`: what splits a text first."""
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    steps = [*before, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)]
    made.pre_tokenizer = pre_tokenizers.Sequence(steps) if before else steps[0]
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def sentencepiece_like():
    """BPE as the converter of transformers makes it of LLaMA 2's model, with each token's merges where it was made."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    made = ["th", "▁th", "the", "▁the", "in", "ain", "▁p", "pl", "lain", "plain", "▁plain"]
    for piece in [*sorted(set("▁theinaplrofsm,")), *made]:
        vocab.setdefault(piece, len(vocab))
    pairs = [(w[:k], w[k:]) for w in made for k in range(1, len(w)) if w[:k] in vocab and w[k:] in vocab]
    tokenizer = Tokenizer(models.BPE(vocab, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in ("<unk>", *SPECIAL)])
    return tokenizer


TOKENIZERS = {
    "gpt-2": byte_level,
    "smollm": lambda: byte_level(pre_tokenizers.Digits(individual_digits=True)),
    "llama-bpe": lambda: byte_level(
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"), ignore_merges=True, use_regex=False
    ),
    "sentencepiece": sentencepiece_like,
}


def with_bos(tokenizer):
    """The tokenizer, which puts <s> before every text."""
    number = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    return tokenizer


def beside(source, tokenizer, folder, **fields):
    """A copy of a model folder with a tokenizer and its special ids."""
    shutil.copytree(source, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    ids = {f"{name}_token_id": tokenizer.token_to_id(text) for name, text in zip(("bos", "eos"), SPECIAL, strict=True)}
    (folder / "config.json").write_text(json.dumps({**config, **ids, **fields}))
    return folder


def written(source, to, folder):
    """A GGUF file and what the conversion says of it."""
    report = convert(source, to=to, output=folder, request=GGUF)
    return report.output / "model.gguf", report.notes


@pytest.mark.parametrize("bos", [False, True], ids=["bare", "with bos"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_transformers_and_llama_cpp_make_the_same_tokens(name, bos, hot_llama, tmp_path, request):
    from transformers import AutoTokenizer

    tokenizer = with_bos(TOKENIZERS[name]()) if bos else TOKENIZERS[name]()
    path, notes = written(beside(hot_llama(), tokenizer, tmp_path / "hot"), "llama-gguf", tmp_path / "out")
    assert not any("tokenizer" in note for note in notes)
    said = {field.name: field.contents() for field in gguf.GGUFReader(path).fields.values()}
    assert said["tokenizer.ggml.model"] == ("llama" if name == "sentencepiece" else "gpt2")
    assert len(said["tokenizer.ggml.tokens"]) == ROWS and said["tokenizer.ggml.tokens"][-1] == f"[PAD{ROWS - 1}]"
    assert said["tokenizer.ggml.add_bos_token"] is bos
    if name == "gpt-2":  # transformers gives every file of a llama the split of LLaMA 3
        theirs = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
        assert theirs.convert_tokens_to_ids("<s>") == tokenizer.token_to_id("<s>")
    llama_cpp = request.getfixturevalue("llama_cpp")
    for text in TEXTS:
        assert llama_cpp.tokens(path, text) == tokenizer.encode(text).ids, text


def test_the_check_of_tokens_would_notice_another_split(hot_llama, llama_cpp, tmp_path):
    """The control: digits one by one, and llama.cpp told that they are not."""
    tokenizer = byte_level()
    path, _ = written(beside(hot_llama(), tokenizer, tmp_path / "hot"), "llama-gguf", tmp_path / "out")
    path.write_bytes(path.read_bytes().replace(b"gpt-2", b"falcn").replace(b"falcn", b"phi-2"))
    other = byte_level(pre_tokenizers.Digits(individual_digits=True))
    assert any(llama_cpp.tokens(path, text) != other.encode(text).ids for text in TEXTS)


def changed(tokenizer, **parts):
    """The text of a tokenizer.json with parts of it replaced."""
    return {**json.loads(tokenizer.to_str()), **parts}


SCATTERED = [["t", "h"], ["i", "n"], ["▁", "th"], ["t", "h"]]
UNHELD = {
    "only BPE is written": lambda: changed(byte_level(), model={"type": "Unigram", "vocab": []}),
    "none that llama.cpp has a name for": lambda: changed(byte_level(), pre_tokenizer={"type": "Whitespace"}),
    "it has no merges": lambda: changed(byte_level(), model={"type": "BPE", "vocab": {"a": 0}, "merges": []}),
    "post-processor RobertaProcessing": lambda: changed(byte_level(), post_processor={"type": "RobertaProcessing"}),
    "takes spaces beside it": lambda: changed(
        byte_level(), added_tokens=[{"id": 3, "content": "<m>", "special": True, "lstrip": True}]
    ),
    "the embedding has 332 rows": lambda: changed(
        byte_level(), added_tokens=[{"id": 332, "content": "<m>", "special": True}]
    ),
    "has no merge for a way to make": lambda: _with_merges([["t", "h"]]),
    "do not stand together": lambda: _with_merges(SCATTERED),
    "unknown form": lambda: {"version": "1.0"},
    "an unknown form": lambda: changed(byte_level(), post_processor={"type": "TemplateProcessing", "single": [{}]}),
    "more around a text": lambda: changed(
        byte_level(), post_processor={"type": "TemplateProcessing", "single": [{"Sequence": {}}, {"Sequence": {}}]}
    ),
}


def _with_merges(merges):
    content = changed(sentencepiece_like())
    return {**content, "model": {**content["model"], "merges": merges}}


@pytest.mark.parametrize("reason", UNHELD)
def test_a_tokenizer_that_llama_cpp_reads_otherwise_is_left_out_by_name(reason, hot_llama, tmp_path):
    hot = tmp_path / "hot"
    shutil.copytree(hot_llama(), hot)
    (hot / "tokenizer.json").write_text(json.dumps(UNHELD[reason]()))
    with pytest.raises(TokenizerRefused, match=reason):
        vocabulary_of(hot, ROWS)
    path, notes = written(hot, "llama-gguf", tmp_path / "out")
    assert any(reason in note and note.startswith("not in model.gguf: the tokenizer") for note in notes)
    said = {field.name: field.contents() for field in gguf.GGUFReader(path).fields.values()}
    assert said["tokenizer.ggml.model"] == "none" and "tokenizer.ggml.tokens" not in said


def test_special_ids_that_contradict_each_other_are_told(hot_llama, tmp_path):
    hot = beside(hot_llama(), with_bos(byte_level()), tmp_path / "hot", bos_token_id=7)
    _, notes = written(hot, "llama-gguf", tmp_path / "out")
    assert any("puts the token 0 around a text as bos, and config.json says 7" in note for note in notes)


def test_the_chat_template_goes_with_the_tokenizer(hot_llama, tmp_path):
    hot = beside(hot_llama(), byte_level(), tmp_path / "hot")
    (hot / "chat_template.jinja").write_text("{{ messages[0].content }}")
    path, _ = written(hot, "llama-gguf", tmp_path / "out")
    assert gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents() == "{{ messages[0].content }}"
