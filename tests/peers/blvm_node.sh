#!/usr/bin/env bash
# Builds the programs made of blvm-node that the tests use, unless they are there already, and prints the folder
# that they are in.
set -euo pipefail

version=0.1.83
here=$(cd "${BASH_SOURCE%/*}" && pwd)
cache="${HOME:?}/.cache/blvm-stratum-v2"
# to be found under, whatever they are made of
link="$cache/blvm-$version"

# of what they are made of: another folder for other programs
hash=$(cd "$here/blvm" && find Cargo.toml Cargo.lock src -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum |
    sha256sum | cut -c1-12)
root="$link-$hash"

if [[ ! -e "$root/complete" ]]; then
    "$here/packages.sh" blvm-node gcc libc6-dev make
    # it stays, so that a small program that changes does not take minutes of building blvm-node anew
    target="$link-target"
    cargo build --quiet --locked --manifest-path "$here/blvm/Cargo.toml" --target-dir "$target" >&2
    mkdir -p "$root"
    for source in "$here"/blvm/src/bin/*.rs; do
        program=$(basename "$source" .rs)
        install -s "$target/debug/$program" "$root/$program"
    done
    touch "$root/complete"
fi
ln -sfn "${root##*/}" "$link"
echo "$root"
