#!/bin/sh
# The first conversion of the README, in the folder demo/: there, judged; back; and the proof that every bit returned.
# Usage: demo.sh FOLDER, where FOLDER has the command `convert`.
set -eu
PATH="$(cd "$1" && pwd):$PATH"
rm -rf demo && mkdir demo && cd demo
run() {
	printf '\n$ %s\n' "$*"
	"$@"
}

run convert llama --to mixformer
run convert mixformer llama-sample-mixformer --to llama -o llama-sample-back
run convert diff llama-sample llama-sample-back
