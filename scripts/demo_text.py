"""Prints what models write after the same words, and ends with 4 if they do not write the same.

python scripts/demo_text.py FOLDER FOLDER ...
"""

import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

START, TOKENS, SEED = "She was not ", 160, 20


def text_of(folder: str) -> str:
    """A text of a model, drawn with one seed, in float64: there two equal models draw the same tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    import mixformer  # noqa: F401  registers the Auto classes

    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    start = tokenizer(START, return_tensors="pt")
    torch.manual_seed(SEED)
    drawn = {"do_sample": True, "temperature": 0.7, "pad_token_id": tokenizer.pad_token_id}
    ids = model.generate(**start, max_new_tokens=TOKENS, **drawn)
    return str(tokenizer.decode(ids[0]))


def main(folders: list[str]) -> int:
    """Prints each text; 0 if all are equal."""
    texts = {folder: text_of(folder) for folder in folders}
    for folder, text in texts.items():
        print(f"\n{folder} writes:\n  {text!r}")
    equal = len(set(texts.values())) == 1
    print("the texts are equal" if equal else "THE TEXTS DIFFER")
    return 0 if equal else 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
