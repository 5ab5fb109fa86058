#!/usr/bin/env bash
# Installs SRI's CPU mining device, unless it is there already, and prints where it is.
set -euo pipefail

version=0.6.0
root="${HOME:?}/.cache/blvm-stratum-v2/integration_tests_sv2-$version"
program="$root/bin/mining_device"

if [[ ! -x "$program" ]]; then
    "${BASH_SOURCE%/*}/packages.sh" mining_device capnproto libcapnp-dev
    cargo install --locked "integration_tests_sv2@$version" --bin mining_device --root "$root" >&2
fi
echo "$program"
