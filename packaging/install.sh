#!/bin/sh
# Install a released Vouchgate for this machine: one binary, no compiler.
#
#   sh install.sh [--version X.Y.Z] [--to DIR] [--from URL-OR-DIRECTORY]
#
# Downloads the archive and SHA256SUMS of a release, refuses the archive unless its digest is the one stated, and puts
# `vouchgate` into DIR (default: /usr/local/bin for root, ~/.local/bin for others). Where a signature is to be checked
# as well, download SHA256SUMS yourself, check it, and say --from with that directory.
set -eu

version=latest
to=
from=

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
        --version | --to | --from)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case "$1" in
                --version) version=$2 ;;
                --to) to=$2 ;;
                --from) from=$2 ;;
            esac
            shift 2
            ;;
        -h | --help)
            sed -n '2,9s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) fail "unknown argument $1 (see --help)" ;;
    esac
done

[ "$(uname -s)" = Linux ] || fail "there are releases for Linux only; elsewhere build it: cargo build --release"
case "$(uname -m)" in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "there is no release for $(uname -m); build it: cargo build --release" ;;
esac
archive=vouchgate-$machine-linux-gnu.tar.gz

if [ -z "$from" ]; then
    releases=https://github.com/vouchgate/vouchgate/releases
    case "$version" in
        latest) from=$releases/latest/download ;;
        *) from=$releases/download/v$version ;;
    esac
fi
if [ -z "$to" ]; then
    if [ "$(id -u)" = 0 ]; then to=/usr/local/bin; else to=$HOME/.local/bin; fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

get() {
    case "$from" in
        https://*) curl --proto '=https' --tlsv1.2 -fsSL --retry 3 -o "$work/$1" "$from/$1" || fail "cannot download $from/$1" ;;
        *://*) fail "only https and directories are taken, not $from" ;;
        *) cp "$from/$1" "$work/$1" || fail "cannot read $from/$1" ;;
    esac
}

get SHA256SUMS
get "$archive"
(cd "$work" && grep " [ *]\{0,1\}$archive\$" SHA256SUMS > expected) || fail "SHA256SUMS does not name $archive"
(cd "$work" && sha256sum -c expected > /dev/null 2>&1) || fail "$archive is not what SHA256SUMS states: not installed"
tar -xzf "$work/$archive" -C "$work" vouchgate || fail "$archive does not hold the program"
"$work/vouchgate" version > /dev/null || fail "the program does not run here (it needs glibc 2.36 or newer)"
mkdir -p "$to"
# Renamed into place: a running server keeps the file it was started from.
install -m 0755 "$work/vouchgate" "$to/.vouchgate.new"
mv "$to/.vouchgate.new" "$to/vouchgate"
echo "$("$to/vouchgate" version) is installed in $to"
case ":$PATH:" in
    *":$to:"*) ;;
    *) echo "add it to your PATH: export PATH=\"$to:\$PATH\"" ;;
esac
