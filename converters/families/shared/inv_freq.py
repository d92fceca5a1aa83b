"""Rotary embeddings: the table `inv_freq` that old checkpoints hold, and the moves between the two orders of pairs."""

from converters.algebra.moves import Concat, Rows, Split
from converters.algebra.views import Each, Reorder, Same, Then
from converters.plan.our_buffers import inv_freq as inv_freq


# From interleaved pairs to half-split ones, in the rows of all heads: rows are first put in the order (row of a head,
# head), so that the rows that rotate come first, and put back afterwards.
def _halves(heads: str, rows: tuple[str, str]) -> Then:
    return Then(
        (
            Rows((heads, "head_dim"), (1, 0)),
            Split(rows),
            Each((Rows(("half_rotary", 2, heads), (1, 0, 2)), Same())),
            Concat(rows),
            Rows(("head_dim", heads), (1, 0)),
        )
    )


HALVES = _halves("n_head", ("rotary_rows", "passing_rows"))
KV_HALVES = _halves("n_head_kv", ("kv_rotary_rows", "kv_passing_rows"))


# The two halves of each head in the other order: heads that turn the other way, in all heads or in one vector for all.
_HALF_ROWS = Then((Split(("half_rows", "half_rows")), Reorder((1, 0)), Concat(("half_rows", "half_rows"))))
SWAPPED = Then(
    (Rows(("n_head", 2, "half_rotary"), (1, 0, 2)), _HALF_ROWS, Rows((2, "n_head", "half_rotary"), (1, 0, 2)))
)
SWAPPED_IN_ONE = Then((Split(("half_rotary", "half_rotary")), Reorder((1, 0)), Concat(("half_rotary", "half_rotary"))))


def halves_of(heads: str) -> Rows:
    """The same where whole heads rotate; `heads`: the name of their number."""
    return Rows((heads, "half_rotary", 2), (0, 2, 1))
