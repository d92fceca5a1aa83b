"""The weights of a failed candidate beside what the mapping gives: what lies elsewhere, and what was changed how."""
