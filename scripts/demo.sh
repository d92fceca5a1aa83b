#!/bin/sh
# The main job on the built-in sample: there, judged; back; and the proof that every bit returned.
set -eu
bin=$(cd "$1" && pwd)
rm -rf demo && mkdir demo && cd demo
say() { printf '\n$ %s\n' "$*"; }

say convert llama --to mixformer
"$bin/convert" llama --to mixformer
say convert mixformer llama-sample-mixformer --to llama -o llama-sample-back
"$bin/convert" mixformer llama-sample-mixformer --to llama -o llama-sample-back
say convert diff llama-sample llama-sample-back
"$bin/convert" diff llama-sample llama-sample-back
