#!/usr/bin/env bash
# Builds Bitcoin Core with its mining interface over IPC, unless it is there already, and prints
# the folder that its programs are in.
set -euo pipefail

# a crate that carries the whole source of Bitcoin Core (31.99)
crate=libbitcoinkernel-sys
version=0.4.1
root="${HOME:?}/.cache/blvm-stratum-v2/bitcoin-core-$version"
programs=(bitcoin-node bitcoind bitcoin-cli)

packages="${BASH_SOURCE%/*}/packages.sh"

# their libraries are needed to run it too
"$packages" 'Bitcoin Core' libevent-dev libcapnp-dev
if [[ ! -e "$root/complete" ]]; then
    "$packages" 'Bitcoin Core' cmake ninja-build pkg-config libboost-dev capnproto g++
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/fetch/src"
    touch "$work/fetch/src/lib.rs"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n' \
        "$crate" "$version" >"$work/fetch/Cargo.toml"
    (cd "$work/fetch" && cargo vendor --quiet ../vendor) >/dev/null
    # without the wallet, the tests and the tools, which the tests here have no use for
    cmake -S "$work/vendor/$crate/bitcoin" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DENABLE_WALLET=OFF -DBUILD_TESTS=OFF -DBUILD_BENCH=OFF -DENABLE_IPC=ON -DBUILD_TX=OFF \
        -DBUILD_UTIL=OFF -DWITH_ZMQ=OFF -DENABLE_EXTERNAL_SIGNER=OFF -DWITH_EMBEDDED_ASMAP=OFF >&2
    ninja -C "$work/build" "${programs[@]}" >&2
    mkdir -p "$root"
    for program in "${programs[@]}"; do
        install -s "$work/build/bin/$program" "$root/$program"
    done
    touch "$root/complete"
fi
echo "$root"
