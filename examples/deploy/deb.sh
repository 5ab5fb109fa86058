#!/usr/bin/env bash
# deb.sh [--binary PATH] [--out DIRECTORY]: makes a Debian package, and prints its path. Without --binary the server
# is built for release. The same sources give the same package, byte for byte; SOURCE_DATE_EPOCH dates it, else the
# last commit does.
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022

root=$(cd "$(dirname "$0")/../.." && pwd)
binary='' out=$root/target/debian
while (($#)); do
    case $1 in
    --binary) binary=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    *) echo "usage: ${0##*/} [--binary PATH] [--out DIRECTORY]" >&2 && exit 2 ;;
    esac
done
name=blvm-stratum-v2
deploy=$root/examples/deploy
config=$root/examples/config.toml

if [[ -z $binary ]]; then
    cargo build --release --locked --manifest-path "$root/Cargo.toml" --bin "$name"
    binary=${CARGO_TARGET_DIR:-$root/target}/release/$name
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p;/^version/q' "$root/Cargo.toml")
architecture=$(dpkg --print-architecture)
: "${SOURCE_DATE_EPOCH:=$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/Cargo.toml")}"
export SOURCE_DATE_EPOCH

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
put() { install -D -m "$1" "$2" "$tree/$3"; }
made() { mkdir -p "$tree/$(dirname "$1")" && cat >"$tree/$1"; }

put 755 "$binary" usr/bin/$name
# what it knows of its functions stays with whoever has built it
strip --strip-debug "$tree/usr/bin/$name"
put 644 "$deploy/$name.service" lib/systemd/system/$name.service
put 644 "$deploy/$name.sysusers" usr/lib/sysusers.d/$name.conf
put 644 "$root/LICENSE" usr/share/doc/$name/copyright
"$binary" man | made usr/share/man/man1/$name.1
gzip -9n "$tree/usr/share/man/man1/$name.1"
"$binary" completions bash | made usr/share/bash-completion/completions/$name
"$binary" completions zsh | made usr/share/zsh/vendor-completions/_$name
"$binary" completions fish | made usr/share/fish/vendor_completions.d/$name.fish
# it has passwords, it may be
put 640 "$config" etc/$name/config.toml

made DEBIAN/conffiles <<<"/etc/$name/config.toml"
libc=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
made DEBIAN/control <<END
Package: $name
Version: $version
Architecture: $architecture
Maintainer: The $name developers <$name@localhost>
Section: net
Priority: optional
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)
Depends: libc6 (>= ${libc#GLIBC_}), libgcc-s1, systemd | systemd-standalone-sysusers
Recommends: ca-certificates
Description: Stratum V2 mining server
 Serves miners over QUIC, and over Noise and TCP, from Bitcoin Core, blvm-node
 or an SV2 Template Provider.
END
made DEBIAN/postinst <<'END'
#!/bin/sh
set -e
name=blvm-stratum-v2
if [ "$1" = configure ]; then
    systemd-sysusers $name.conf
    # for the server to read, and for no one else
    chgrp $name /etc/$name/config.toml
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        # an upgrade, if $2 is what there was
        if [ -n "$2" ]; then systemctl try-restart $name.service; fi
    fi
    if [ -z "$2" ]; then
        echo "see /etc/$name/config.toml, then: systemctl enable --now $name"
    fi
fi
END
made DEBIAN/prerm <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now blvm-stratum-v2.service
fi
END
made DEBIAN/postrm <<'END'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
if [ "$1" = purge ] && [ -d /var/lib/blvm-stratum-v2 ]; then
    echo "keys and unsubmitted blocks are left in /var/lib/blvm-stratum-v2"
fi
END
chmod 755 "$tree"/DEBIAN/p*

find "$tree" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$out"
package=$out/${name}_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$tree" "$package" >&2
echo "$package"
