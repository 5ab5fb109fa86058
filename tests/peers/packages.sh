#!/usr/bin/env bash
# packages.sh FOR PACKAGE...: installs those of Debian's packages that are missing.
set -euo pipefail

what=$1
shift
missing=()
for package in "$@"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0
if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "$what needs ${missing[*]} to build: install them first" >&2
    exit 1
fi
apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >&2
