#!/usr/bin/env bash
# Installs SRI's CPU mining device, unless it is there already, and prints where it is.
set -euo pipefail

version=0.6.0
root="${HOME:?}/.cache/blvm-stratum-v2/integration_tests_sv2-$version"
program="$root/bin/mining_device"

if [[ ! -x "$program" ]]; then
    missing=()
    command -v capnp >/dev/null || missing+=(capnproto)
    [[ -e /usr/include/capnp/c++.capnp ]] || missing+=(libcapnp-dev)
    if ((${#missing[@]})); then
        if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
            echo "mining_device needs ${missing[*]} to build: install them first" >&2
            exit 1
        fi
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >&2
    fi
    cargo install --locked "integration_tests_sv2@$version" --bin mining_device --root "$root" >&2
fi
echo "$program"
