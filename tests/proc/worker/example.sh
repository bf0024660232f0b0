#!/bin/sh
# example.sh SOURCES PKG_CONFIG_DIR TEST PL_WORKER: the example plugin is built outside of the tree, by its
# own Makefile and with pkg-config alone, and then runs a job.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# An installed parking-lot, as far as plugins see it.
root=$dir/root
include=$root$(PKG_CONFIG_PATH=$2 pkg-config --variable=includedir parkinglot-executor)
mkdir -p "$include/parkinglot"
cp "$1"/../../include/parkinglot/executor.h "$include/parkinglot"
cp "$1"/*.c "$1"/Makefile "$dir"
PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$2 make -s -C "$dir" CFLAGS='-Wall -Wextra -Werror' \
    pl_exec_reverse.so
symbols=$(nm -D --defined-only "$dir/pl_exec_reverse.so" | awk '{ print $3 }')
if [ "$symbols" != pl_executor_entry ]; then
    echo "one symbol is expected, there are: $symbols" >&2
    exit 1
fi
"$3" "$4" "$dir" "$dir"
