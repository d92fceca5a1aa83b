"""The reader of torch files against torch itself: every protocol, wrapper and view; and it does no more than that."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from converters.checkpoint.opening import readable, tensors_of
from converters.checkpoint.tensor_bytes import row_major_bytes
from converters.checkpoint.torch_pickle import MOST_STEPS, unpickled
from converters.checkpoint.torch_zip import read_zip
from converters.errors import UnsafeFile


def state_dict() -> dict[str, object]:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "plain": torch.randn(3, 5, generator=torch.Generator().manual_seed(1)),
        "transposed": base.T,
        "part": base[1:3, 2:4],
        "shared": base,
        "half": torch.ones(2, 2).half(),
        "bfloat16": torch.ones(2).bfloat16(),
        "whole": torch.arange(4),
        "empty": torch.empty(0, 3),
        "one": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def read_back(path: Path) -> dict[str, bytes]:
    """The bytes of each tensor, row by row."""
    file = readable(path)
    data = file.read_bytes()
    return {t.key: row_major_bytes(t, lambda at, n: data[at : at + n]) for t in tensors_of(file, 0)}


def bytes_of(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


@pytest.mark.parametrize(("protocol", "zipped"), [(2, True), (3, True), (4, True), (5, True), (2, False)])
def test_tensors_are_those_that_were_saved(protocol: int, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(state_dict(), path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert read_back(path) == {key: bytes_of(tensor) for key, tensor in state_dict().items()}


def test_a_module_s_own_state_dict_with_its_versions(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    torch.save({"state_dict": module.state_dict()}, tmp_path / "pytorch_model.bin")
    found = read_back(tmp_path / "pytorch_model.bin")
    assert found == {key: bytes_of(tensor) for key, tensor in module.state_dict().items()}


def test_many_tensors_are_read(tmp_path: Path) -> None:
    """Ten times as many as any model that converts has."""
    torch.save({f"layers.{k}.weight": torch.ones(1) for k in range(8_000)}, tmp_path / "x.bin")
    assert len(read_zip(tmp_path / "x.bin")) == 8_000


HOSTILE = {
    "a name": b"\x80\x02cos\nsystem\n.",
    "a name by its module alone": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "a class": b"\x80\x02ctorch\nTensor\n)\x81.",
    "an opcode": b"\x80\x02I1\n.",
    "a call of a dict": b"\x80\x02})R.",
    "a call of a number": b"\x80\x02K\x01)R.",
    "attributes of a function": b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb0.",
    "a key that is a tuple": b"\x80\x02}K\x01\x85K\x01s.",
    "a key that is a huge number": b"\x80\x02}\x8a\x09" + b"\x00" * 8 + b"\x01K\x01s.",
    "items of a list": b"\x80\x02]K\x01K\x01s.",
    "a list that grows a dict": b"\x80\x02}K\x01a.",
    "a tuple of nothing": b"\x80\x02\x87.",
    "a mark that is missing": b"\x80\x02t.",
    "a memo that is missing": b"\x80\x02h\x07.",
    "a tensor of no storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00)(t\x89Ntt.",
    "a reference to a file": b"\x80\x02(X\x04\x00\x00\x00fileX\x01\x00\x00\x00aNNNtQ.",
    "no end": b"\x80\x02}",
    "too many steps": b"\x80\x02" + b"N" * (MOST_STEPS + 1) + b".",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_state_dict_does_not_need_is_refused(case: str) -> None:
    with pytest.raises((pickle.UnpicklingError, ValueError, LookupError, TypeError)):
        unpickled(HOSTILE[case])


def test_what_it_needs_is_not() -> None:
    """The control: the same shapes of pickles, and nothing wrong in them."""
    made, end = unpickled(b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00aK\x01u}b.rest")
    assert (made, end) == ({"a": 1}, len(b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00aK\x01u}b."))


def rewritten(path: Path, change: str) -> Path:
    """The file with one thing of its zip changed."""
    with zipfile.ZipFile(path) as old:
        entries = [(info.filename, old.read(info)) for info in old.infolist()]
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as new:
        for name, data in entries:
            kind = zipfile.ZIP_DEFLATED if name.endswith(change) else zipfile.ZIP_STORED
            new.writestr(name, data, compress_type=kind)
        if change == "comment":
            new.comment = b"more"
    path.write_bytes(held.getvalue())
    return path


@pytest.mark.parametrize("change", ["data.pkl", "byteorder", "version", "data/0", "comment"])
def test_a_zip_that_torch_would_not_write_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    torch.save(state_dict(), path)
    assert len(read_zip(rewritten(path, "nothing"))) == len(state_dict())
    with pytest.raises(UnsafeFile, match=r"is compressed|something follows"):
        read_zip(rewritten(path, change))


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """Many entries over one run of bytes are a bomb to a reader that loads them all."""
    path = tmp_path / "x.bin"
    torch.save({f"t{k}": torch.zeros(4000) for k in range(40)}, path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        last = archive.getinfo(archive.namelist()[0].split("/")[0] + "/data/39")
    at = data.rfind(last.filename.encode()) - 46  # the entry in the directory: sizes at byte 20 and 24
    data[at + 20 : at + 28] = (len(data)).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(UnsafeFile, match=r"larger than the file|reaches beyond"):
        read_zip(path)
