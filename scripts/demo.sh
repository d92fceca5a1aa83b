#!/bin/sh
# The first conversion of the README, in the folder demo/: there, judged, with what both models write; back; and the
# proof that every bit returned.
# Usage: demo.sh FOLDER, where FOLDER has the command `convert` and its Python.
set -eu
commands="$(cd "$1" && pwd)"
scripts="$(cd "$(dirname "$0")" && pwd)"
PATH="$commands:$PATH"
rm -rf demo && mkdir demo && cd demo
run() {
	printf '\n$ %s\n' "$*"
	"$@"
}

run convert llama --to mixformer
"$commands/python" "$scripts/demo_text.py" llama-sample llama-sample-mixformer
run convert mixformer llama-sample-mixformer --to llama -o llama-sample-back
run convert diff llama-sample llama-sample-back
