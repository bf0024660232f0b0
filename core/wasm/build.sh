#!/bin/sh
# Builds the core for WebAssembly: core/wasm/build.sh OUT.wasm. Fails when it would import anything.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:?usage: build.sh OUT.wasm}
clang=${PL_WASM_CC:-clang}
# -ffreestanding keeps the headers to the compiler's own; no -fno-builtin: mem.c has what they need.
"$clang" --target=wasm32 -std=gnu17 -ffreestanding -nostdlib -O2 -fno-strict-aliasing -Wall -Wextra \
    -Werror -I"$root" -I"$root/include" -Wl,--no-entry -Wl,--export-all -o "$out" \
    "$root"/core/*.c "$root/core/wasm/mem.c" "$root/base/assert.c" "$root/base/uuid.c"
exec python3 "$root/core/wasm/check_imports.py" "$out" pl_core_region_bytes pl_core_format \
    pl_core_step pl_core_deadline pl_core_check pl_core_explain
