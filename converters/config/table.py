"""Config tables: the conversion of config.json. Every field is mapped, waived or refused by name, as tensors are.

The residue is what has no counterpart in ours. It is kept in config.json under `converted_from: {family, fields,
absent}`. On the way back the config is first made from the fields of ours. Then each field that still means the same
gets its old value and spelling. So an untouched MixFormer gives an equal config, and an edited one gives the edits.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from converters.config import moe_layout, part_layout
from converters.config.cannot_hold import CannotHold
from converters.config.echo import Echo
from converters.config.entries import Config, Entry, Losing, Ours, Theirs
from converters.config.kinds import same
from converters.config.layout import ARCHITECTURE, MODEL_TYPE, resolve, unflatten
from converters.config.list_architecture import as_list
from converters.config.model_classes import Architectures
from converters.config.obstacles import Obstacles, foreign_fields, unknown_fields
from converters.config.waivers import is_said, places, without
from converters.errors import ConfigRefused

RESIDUE = "converted_from"
CLASSES = ("architectures",)

# Fields of transformers' base config, of every version, that say nothing about the function of a decoder. They are kept
# in the residue and restored.
BASE = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _commit_hash _flash_attn_2_enabled _model_name_or_path
    _name_or_path add_cross_attention bad_words_ids begin_suppress_tokens chunk_size_feed_forward cls_token_id
    cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id id2label is_decoder is_encoder_decoder keys_to_ignore_at_inference label2id length_penalty
    mask_token_id max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_scores prefix problem_type pruned_heads
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torchscript
    transformers.js_config transformers_version typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16
    """.split()
)

# Fields of ours that choose an implementation or belong to training. They do not change the function.
OURS_FREE = frozenset(
    """
    model_type architectures converted_from head loss final_norm gradient_checkpointing
    phyagi_version cp_size tp_size auto_map architecture.mixer.flash_attn architecture.mixer.fused_dense
    architecture.mixer.flash_rotary architecture.loss.loss_cls architecture.loss.shift_labels
    architecture.loss.ignore_index architecture.loss.reduction architecture.loss.flash_cross_entropy_loss
    architecture.loss.inplace_backward torch_dtype architecture.mlp.experts_impl
    """.split()
)

# Fields of ours that change the function and that no other family has: only these values can leave MixFormer.
OURS_FIXED: Mapping[str, Any] = {"cross_sample_token_id": None}


@dataclass(frozen=True)
class ConfigTable:
    """The config side of a family.

    entries: how fields map. free: fields of theirs that do not change the function, besides those of `BASE`.
    unread: paths of ours that do not change a block of the family's own. called: the family's name as people write it,
    for messages.
    """

    entries: tuple[Entry, ...]
    free: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    called: str = ""

    def to_ours(
        self, theirs: Config, family: str, waived: Collection[str] = (), extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A MixFormer config with the residue of theirs; `extra` is added to the residue.

        Raises:
            ConfigRefused: a field is unknown, or has a value that is not allowed or that MixFormer cannot hold.
        """
        ours = self._read_all(theirs, family, waived)
        derived = self._derive(resolve(ours), family)
        fields = {k: v for k, v in theirs.items() if k not in derived or not _alike(derived[k], v)}
        residue: dict[str, Any] = {"family": family, **(extra or {}), "fields": fields}
        residue["absent"] = sorted(name for name in derived if name not in theirs)
        if waived:
            residue["waived"] = sorted(waived)
        head = {"architectures": [ARCHITECTURE], "model_type": MODEL_TYPE}
        return {**head, **ours, RESIDUE: {k: v for k, v in residue.items() if v}}

    def to_theirs(self, ours: Config, family: str, waived: Collection[str] = ()) -> dict[str, Any]:
        """The config of theirs that a MixFormer config means, in its old spelling where it came from this family.

        Raises:
            ConfigRefused: the family cannot hold a value, or a field is unknown.
        """
        live = resolve(ours)
        derived = self._derive(live, family, waived, self._account_ours(live, family, waived))
        residue = residue_of(ours, family)
        kept = {**derived, **residue.get("fields", {})}
        kept = {name: value for name, value in kept.items() if name not in residue.get("absent", ())}
        old = _listed(residue)
        for entry in self._judged(waived):
            if not set(old) & set(entry.theirs) and not self._means(entry, without(kept, old), derived):
                kept = {name: value for name, value in kept.items() if name not in entry.theirs}
                kept.update(entry.write(live))
        return kept

    def read(self, theirs: Config) -> dict[str, Any]:
        """The MixFormer config that a config of theirs means, without a residue."""
        flat: dict[str, Any] = {}
        for entry in self.entries:
            flat.update(entry.read(theirs))
        return as_list(unflatten(flat))

    def lost(self, ours: Config) -> dict[str, Any]:
        """What of a resolved config of ours changes training alone and is left out: paths and values."""
        return {path: v for one in self.entries if isinstance(one, Losing) for path, v in one.lost(ours).items()}

    def names_own_class(self, architectures: Any) -> bool:
        """Whether a value of `architectures` names a class of the family."""
        entries = (e for e in self.entries if isinstance(e, Architectures))
        return bool(architectures) and any(entry.names(architectures) for entry in entries)

    @property
    def own_classes(self) -> list[str]:
        """What the family writes as `architectures`."""
        values = (e.values[0] for e in self.entries if isinstance(e, Theirs) and e.name == "architectures")
        return list(next(values, None) or [])

    @property
    def known(self) -> frozenset[str]:
        """Fields of theirs that the table accounts for."""
        return frozenset(name for entry in self.entries for name in entry.theirs) | self.free | BASE

    def _read_all(self, theirs: Config, family: str, waived: Collection[str]) -> dict[str, Any]:
        """As `read`, and every field has to be known; all that stands in the way is told at once."""
        found, flat = Obstacles(), dict[str, Any]()
        with found.collecting():
            self._account(theirs, waived)
        said = without(theirs, waived)
        for entry in self.entries:
            with found.collecting(first=entry.theirs == CLASSES):
                flat.update(entry.read(said))
        known = {name for entry in self.entries for name in entry.theirs}
        if unknown := [name for name in said if name not in known | self.free | BASE]:
            foreign = foreign_fields(unknown, family) if found.first else unknown_fields(unknown, said, known)
            found.told.append(foreign)
        found.check()
        return as_list(unflatten(flat))

    def _derive(
        self, live: Config, family: str, waived: Collection[str] = (), found: Obstacles | None = None
    ) -> dict[str, Any]:
        """The config of theirs; `found`: what stands in the way already."""
        found, derived = found or Obstacles(), dict[str, Any]()
        for entry in self._judged(waived):
            with found.collecting():
                try:
                    _add(derived, entry.write(live), entry)
                except CannotHold as unheld:
                    raise ConfigRefused(unheld.of(family, self.called or family)) from None
        found.check()
        return derived

    def _judged(self, waived: Collection[str]) -> list[Entry]:
        """Entries that are not waived. Only paths of ours that theirs has no field for can be waived."""
        return [entry for entry in self.entries if not (isinstance(entry, Ours) and entry.path in waived)]

    def _means(self, entry: Entry, theirs: Config, derived: Config) -> bool:
        """Whether two configs of theirs mean the same for this entry."""
        try:
            return same(entry.read(theirs), entry.read(derived))
        except ConfigRefused:
            return False

    def _account(self, theirs: Config, waived: Collection[str]) -> None:
        """Every waiver is of a field that is there, and that nothing is made of."""
        fixed = {name for entry in self.entries if not isinstance(entry, Theirs | Echo) for name in entry.theirs}
        for name in waived:
            inside = name not in theirs and is_said(theirs, name)
            others = without(theirs, [other for other in waived if other != name])
            if not is_said(theirs, name) or name in fixed or (inside and self._takes(name, others)):
                why = "is converted" if is_said(theirs, name) else "is not a field of config.json"
                raise ConfigRefused(f"--waive {name}: it {why}, so there is nothing to waive")

    def _takes(self, name: str, theirs: Config) -> bool:
        """Whether the entry of a field takes what is inside it."""
        fields = {field for field, _ in places(name)}
        entries = [entry for entry in self.entries if fields & set(entry.theirs)]
        try:
            return bool([entry.read(theirs) for entry in entries])
        except ConfigRefused:
            return False

    def _account_ours(self, live: Config, family: str, waived: Collection[str]) -> Obstacles:
        """What stands in the way of fields that have no entry. No waiver helps where they change the function."""
        if fixed := sorted(part_layout.CHANGES_FUNCTION.intersection(waived)):
            raise ConfigRefused(f"--waive {fixed[0]}: it changes what the model computes, so it cannot be ignored")
        found = Obstacles()
        known = {path for entry in self.entries for path in (*entry.ours, *entry.also)} | self.unread
        for path, value in OURS_FIXED.items():
            if path not in known and not same(live.get(path), value):
                found.told.append(
                    f"{path} is {live[path]!r}: attention stops at that token, which only MixFormer can do. Set it to"
                    f" null if your texts do not hold that token"
                )
        known |= OURS_FIXED.keys()
        unknown = [path for path in live if path not in known | OURS_FREE | BASE]
        if telling := [path for path in unknown if path in part_layout.CHANGES_FUNCTION]:
            mixed = moe_layout.EXPERTS in telling
            rest = [path for path in telling if not mixed or path not in moe_layout.DEFAULTS]
            named = ", ".join([*(["a mixture of experts"] if mixed else []), *rest])
            raise ConfigRefused(
                f"{family} cannot hold this model: it uses {named}, which {self.called or family} does not have"
            )
        if unknown := [path for path in unknown if path not in waived]:
            found.told.append(unknown_fields(unknown, live, known))
        return found


def _add(derived: dict[str, Any], written: Config, entry: Entry) -> None:
    """Add what an entry writes; one field of theirs can hold only one value, whatever fields of ours it stands for."""
    for name, value in written.items():
        if name in derived and not same(derived[name], value):
            uses = f"it means {name} {derived[name]!r} by one of its fields and {value!r} by another"
            raise CannotHold(uses, "one value for both", " and ".join(entry.ours))
        derived[name] = value


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are equal and have one spelling: 10000 and 10000.0 have two."""
    return same(one, other) and type(one) is type(other)


def _listed(residue: Mapping[str, Any]) -> list[Any]:
    """What was waived."""
    waived = residue.get("waived", [])
    return waived if isinstance(waived, list) else [waived]


def residue_of(ours: Config, family: str) -> Mapping[str, Any]:
    """The residue of an earlier conversion from this family, empty if there is none."""
    residue = ours.get(RESIDUE)
    if not isinstance(residue, dict) or residue.get("family") != family:
        return {}
    fields, absent = residue.get("fields", {}), residue.get("absent", [])
    names = (*absent, *_listed(residue)) if isinstance(absent, list) else (absent,)
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in names):
        raise ConfigRefused(
            f"{RESIDUE} in config.json was changed by hand; remove it to convert with the family's defaults"
        )
    return residue
