"""Mistakes whose cause the diagnosis has to name: those of the self-test, and those of every day, with what to say."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from golden.faults import applicability as can
from golden.faults import mapping_faults as m
from golden.faults import weight_faults as w
from golden.faults.catalogue import catalogue
from golden.faults.fault import Plant
from golden.faults.model_copy import Patient
from golden.faults.sphere_faults import SWITCHES
from golden.models.parts import Part
from golden.weights.places import place_of, rank

Applies = Callable[[Patient], bool]


@dataclass(frozen=True)
class Mistake:
    """A planted mistake. ``claim`` is a pattern that a right explanation fits."""

    name: str
    applies: Applies
    plant: Plant
    claim: str


def mistakes(patient: Patient) -> Iterator[Mistake]:
    """All that a model can have."""
    yield from (Mistake(f.name, f.applies, f.plant, claim_of(f.name)) for f in catalogue(patient))
    yield from (mistake for mistake in everyday() if mistake.applies(patient))


PATTERNS = (
    (r"init of the gate 1 % off", r"gate_init is .* and should be"),
    (r"router rows swapped", r"rows \d+ and \d+ of router are exchanged"),
    (r"experts rotated", r"rows of experts_fc[12]( and experts_fc2)? are rolled by \d+ in all layers"),
    (r"up and gate of all experts swapped", r"experts_fc1 are ordered with gate and up of every expert exchanged"),
    (r"shared gate lost", r"shared_gate is False and should be True"),
    (r"normalisation of the top-k .*", r"norm_topk\w* is .* and should be"),
    (r"one expert fewer.*", r"n_active is .* and should be"),
    (r"one sign in (\w+)", r"(one value|entry \d+) of {0}\b.* is negated"),
    (r"one row of (\w+) duplicated", r"(row|column) \d+ of {0} is a copy of"),
    (r"two rows of one head of (\w+) swapped", r"(rows|columns) \d+ and \d+ of {0} are exchanged"),
    (r"one o left random", r"o holds values that have nothing to do with the right ones"),
    (r"six embedding rows zeroed", r"rows .* of embed are zero"),
    (r"two embedding rows swapped", r"rows \d+ and \d+ of embed are exchanged"),
    (r"head rows rolled by one", r"rows of head are rolled by 1"),
    (r"weights passed through (\w+)", r"all weights are rounded through {0}"),
    (r"norms swapped in one layer", r"layer \d+: norm_1 and norm_2 are exchanged"),
    (r"q and k swapped in the shared heads", r"(heads? .* of q and heads? .* of k|q and k) are exchanged"),
    (r"(\w+) and (\w+) swapped", r"({0} and {1}|{1} and {0}) are exchanged in all layers"),
    (r"q and k rows interleaved.*", r"rows of q and k are in interleaved rotary order in all layers"),
    (r"q rows interleaved.*", r"rows of q are in interleaved rotary order in all layers"),
    (r"one head of one layer interleaved", r"layer \d+: head \d+ of q is in interleaved rotary order"),
    (r"kv heads tiled.*", r"key-value heads are tiled instead of repeated in all layers"),
    (r"two q heads of one layer exchanged", r"layer \d+: heads 0 and \d+ of q are exchanged"),
    (r"two layers swapped", r"layers \d+ and \d+ are exchanged"),
    (r"o transposed", r"o is transposed in all layers"),
    (r"final norm taken from layer 0", r"final_norm holds what belongs to norm_[12] of layer 0"),
    (r"attention scale .*", r"(q|q_norm|qk_scale)\b.* multiplied by"),
    (r"(\w+) lost", r"{0} is (zero|\S+ everywhere)"),
    (r"rope theta .*", r"theta is .* and should be"),
    (r"norm eps .*", r"eps is .* and should be"),
    (r"gelu_pytorch_tanh taken for gelu", r"activation is gelu and should be gelu_\w+"),
    (r"residual (\w+) taken for (\w+)", r"residual is {1} and should be {0}"),
    (r"(\w+) taken for (\w+)", r"activation is {1} and should be {0}"),
    (r"head wrongly tied", r"tie is True and should be False"),
    (r"head wrongly untied", r"tie is False and should be True"),
    (r"rotary dimension halved", r"rotary_dim is \d+ and should be"),
    (r"window off by one", r"window(_size)? is .* and should be"),
    (r"softmax scale 1 % off|scores divided by .*", r"scale is .* and should be"),
    (r"one entry of (\w+) doubled", r"entry \d+ of {0} is multiplied by 2"),
    (r"learned scales passed.*", r"rounded through bfloat16"),
    (r"rows normalised again", r"divided by their lengths"),
    (r"q and k permuted without their scale", r"entries of qk_scale are in interleaved rotary order in all layers"),
    (r"a softmax where there is none", r"attn_fn is softmax and should be masked_linear"),
    (r"later keys score.*", r"masked_score is .* and should be"),
    (r"a rotation for the odd turn", r"rotary_style is half and should be ngpt_nvidia"),
    (r"frequencies by (\w+) for (\w+)", r"rotary_formula is {0} and should be {1}"),
    (r"init of (\w+) 1 % off", r"{0}_init is .* and should be"),
    (r"another base of all scales", r"scaling is .* and should be"),
    (r"multiplier of embeddings .*", r"embd_scale is .* and should be"),
    (r"multiplier of branches .*", r"residual_scale is .* and should be"),
    (r"cap on scores .*", r"softcap is .* and should be"),
    (r"bound of q, k and v .*", r"clip\w* is .* and should be"),
    (r"growth of queries .*", r"growth is .* and should be"),
    (r"multiplier of logits .*", r"logit_multiplier is .* and should be"),
    (r"cap on logits .*", r"logit_softcap is .* and should be"),
    (r"norms around 1 .*", r"zero_centered_weight is False and should be True"),
    (r"a layer with positions has none", r"layer \d+: rotary_dim is 0 and should be"),
)


def claim_of(name: str) -> str:
    """The pattern that the explanation of a fault of the catalogue fits."""
    for dial, said, _, called in SWITCHES:
        if called == name:
            return rf"{dial} is .* and should be {said}"
    for pattern, claim in PATTERNS:
        if found := re.fullmatch(pattern, name):
            return claim.format(*found.groups()) if found.groups() else claim
    raise KeyError(name)


def everyday() -> Iterator[Mistake]:
    """Mistakes that conversions by hand have."""
    yield Mistake(
        "layers in reverse", can.has_two_layers, _reverse_layers, "layers (0 and 2|0, 1, ...|are)|another order"
    )
    yield Mistake("embedding and head exchanged", _untied, _swap("embed", "head"), "embed and head are exchanged")
    yield Mistake("o of two layers exchanged", can.has("o"), _swap("0.o", "2.o"), "o of layers 0 and 2 are exchanged")
    yield Mistake("norms minus one", can.has("norm_1"), _shift("norm", -1.0), "norm.* too small by 1")
    yield Mistake("norms plus one", can.has("norm_1"), _shift("norm", 1.0), "norm.* too large by 1")
    yield Mistake("v negated in one layer", can.has("v"), _in_one("v", lambda t: -t), r"layer \d+: v is negated")
    for role in ("down", "fc2"):
        doubled = _in_one(role, lambda t: t * 2)
        yield Mistake(f"{role} doubled", _plain(can.has(role)), doubled, rf"layer \d+: {role} is multiplied by 2")
        half = _in_one(role, lambda t: t.half().float())
        claim = rf"layer \d+: {role} is rounded through float16"
        yield Mistake(f"{role} through float16", can.both(can.has(role), can.is_float32), half, claim)
    root = _whole("embed", lambda t: t * t.shape[1] ** 0.5)
    yield Mistake("embedding times the root of the width", _untied, root, r"embed is multiplied by .*sqrt\(")
    for role in ("up", "fc1"):
        zero = _rows_zero(role)
        yield Mistake(f"rows of {role} zero", can.has(role), zero, rf"layer \d+: rows 3-9 of {role} are zero")
    twice = m.deinterleave("q", "k")
    yield Mistake(
        "half-split twice", can.rotates, twice, "rows of q and k( are|,? were|,? are)?.*half-split order twice"
    )
    yield Mistake(
        "k permuted with the query heads", _odd_heads, _k_by_query_heads, r"rows of k are .*order.*, by \d+ heads"
    )
    ones = _in_one("norm_1", torch.ones_like)
    yield Mistake("a norm left at one", can.has("norm_1"), ones, r"layer \d+: norm_1 is 1 everywhere")
    biased = can.has("fc1_bias")
    yield Mistake("all biases lost", biased, _biases_lost, "bias.* (is|are) zero")
    yield Mistake("q, k, v in another order", _alike("q", "k", "v"), _cycle, "(q|k|v) of layer 0 lies in (q|k|v)")
    several = lambda p: p.anatomy.n_head_kv > 1 and can.has("k")(p)  # noqa: E731
    yield Mistake("two key heads exchanged", several, _key_heads, r"layer 1: heads 0 and 1 of k are exchanged")
    yield Mistake("head in reverse", _untied, _whole("head", lambda t: t.flip(0)), "rows of head are in reverse order")
    rolled = _whole("positions", lambda t: t.roll(2, 0))
    yield Mistake("positions off by two", can.has_whole("positions"), rolled, "rows of positions are rolled by 2")
    once = lambda p, rng: p.swap("1.gate", "1.up")  # noqa: E731
    yield Mistake("gate and up of one layer", can.same_shape("gate", "up"), once, "layer 1: gate and up are exchanged")
    yield Mistake(
        "layer 1 copied over layer 2", can.has_two_layers, _copy_layer, "of layer 2 holds? what belongs to layer 1"
    )
    relu = m.set_dial("activation", "relu")
    yield Mistake("relu", can.dial_is("activation"), relu, "activation is relu and should be")
    yield Mistake("eps of another norm", can.dial_is("eps"), m.set_dial("eps", 1e-12), "eps is 1e-12 and should be")
    yield Mistake(
        "theta of another model", can.dial_is("theta"), m.set_dial("theta", 123456.0), "theta is 123456.0 and"
    )


def _untied(patient: Patient) -> bool:
    return {"embed", "head"} <= patient.anatomy.parts.keys() and not can.has("attn_alpha")(patient)


def _plain(applies: Applies) -> Applies:
    return lambda patient: applies(patient) and not can.has("attn_alpha")(patient)


def _odd_heads(patient: Patient) -> bool:
    anatomy = patient.anatomy
    rows = anatomy.n_head_kv * anatomy.head_dim
    groups = can.groups_heads(patient) and can.rotates(patient) and can.has("k")(patient)
    return groups and rows // anatomy.n_head % 2 == 0 and rows // anatomy.n_head >= 4


def _k_by_query_heads(patient: Patient, rng: random.Random) -> None:
    heads = patient.anatomy.n_head
    for i in range(patient.anatomy.n_layer):
        part = patient.part(f"{i}.k")
        w.assign(part, part.reshape(heads, 2, -1, part.shape[1]).transpose(1, 2).reshape(part.shape))


def _alike(*roles: str) -> Applies:
    def applies(patient: Patient) -> bool:
        if not can.has(*roles)(patient):
            return False
        return len({patient.part(f"0.{role}").shape for role in roles}) == 1

    return applies


def _cycle(patient: Patient, rng: random.Random) -> None:
    patient.swap("0.q", "0.k")
    patient.swap("0.k", "0.v")


def _swap(one: str, other: str) -> Plant:
    return lambda patient, rng: patient.swap(one, other)


def _shift(start: str, by: float) -> Plant:
    def plant(patient: Patient, rng: random.Random) -> None:
        for role in patient.anatomy.parts:
            name = role.split(".")[-1]
            if (name.startswith(start) or name == "final_norm") and not name.endswith("bias"):
                patient.part(role).add_(by)

    return plant


def _in_one(role: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Plant:
    def plant(patient: Patient, rng: random.Random) -> None:
        part = w.any_part(patient, role, rng)
        w.assign(part, change(part))

    return plant


def _whole(role: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Plant:
    return lambda patient, rng: w.assign(patient.part(role), change(patient.part(role)))


def _rows_zero(role: str) -> Plant:
    def plant(patient: Patient, rng: random.Random) -> None:
        w.any_part(patient, role, rng)[3:10] = 0

    return plant


def _biases_lost(patient: Patient, rng: random.Random) -> None:
    for role in patient.anatomy.parts:
        if role.endswith("_bias"):
            patient.part(role).zero_()


def _key_heads(patient: Patient, rng: random.Random) -> None:
    dim, part = patient.anatomy.head_dim, patient.part("1.k")
    w.assign(part[: 2 * dim], torch.cat([part[dim : 2 * dim], part[:dim]]))


def _reverse_layers(patient: Patient, rng: random.Random) -> None:
    last = patient.anatomy.n_layer - 1
    for role in [name.split(".", 1)[1] for name in patient.anatomy.parts if name.startswith("0.")]:
        for i in range(patient.anatomy.n_layer // 2):
            patient.swap(f"{i}.{role}", f"{last - i}.{role}")


def _copy_layer(patient: Patient, rng: random.Random) -> None:
    for role in [name.split(".", 1)[1] for name in patient.anatomy.parts if name.startswith("1.")]:
        w.assign(patient.part(f"2.{role}"), patient.part(f"1.{role}"))


def touched(sound: Patient, mistake: Mistake) -> set[str]:
    """Roles that a mistake changes in whatever layer, and ``config`` where it changes that."""
    wrong = sound.clone()
    mistake.plant(wrong, random.Random(0))
    found = {"config"} if wrong.config != sound.config else set()
    return found | {role.split(".")[-1] for role, part in _changed(sound, wrong)}


def _changed(sound: Patient, wrong: Patient) -> Iterator[tuple[str, Part]]:
    for role, part in sound.anatomy.parts.items():
        if part.key not in wrong.weights or not torch.equal(sound.part(role), part.view(wrong.weights)):
            yield role, part


def true_place(sound: Patient, wrong: Patient) -> str:
    """The first stage that a planted mistake touches, as `golden.evidence.stages` names it."""
    places = [place_of(role) for role, _ in _changed(sound, wrong)]
    if sound.config != wrong.config:
        places.append(_config_place(sound, wrong))
    return min(places, key=rank)


LATE = {"logit_scale_init", "logit_scale_scaling", "logit_multiplier", "logit_softcap", "tie"}


def _config_place(sound: Patient, wrong: Patient) -> str:
    """Fields of the head show in the logits, those of one block in that layer, all others in the first layer."""
    one, other = (side.config.get("architecture") for side in (sound, wrong))
    if isinstance(one, list) and isinstance(other, list):
        differing = [i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]
        if differing:
            return f"layer {differing[0]}"
    again = Patient(wrong.weights, wrong.config, sound.anatomy)
    changed = {name for name in sound.anatomy.dials if sound.read(name) != again.read(name)}
    if changed == {"embd_scale"}:
        return "embeddings"
    return "logits" if changed and changed <= LATE else "layer 0"
