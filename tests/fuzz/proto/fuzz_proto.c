/* Bytes of a hostile client or server: scanner in two pieces, decoder, every schema. */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "proto/methods.h"

#define MAX_MSG (64u << 10)

static const struct pl_schema *const schemas[] = {
#define ROW(message) &pl_##message##_schema,
    PL_MESSAGES(ROW)
#undef ROW
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
decode_all(struct pl_str map)
{
    static _Alignas(16) char message[4096];
    struct pl_rpc_error error;
    struct pl_mp_writer writer = PL_MP_WRITER_NULL;

    for (size_t i = 0; i < PL_ARRAY_LEN(schemas); i++) {
        PL_ASSERT(schemas[i]->struct_bytes <= sizeof(message));
        if (pl_schema_decode(schemas[i], map, message, &error) != 0)
            continue;
        pl_mp_writer_reset(&writer);
        pl_schema_encode(schemas[i], &writer, message);
        /* What we write we can read. */
        PL_ASSERT(pl_schema_decode(schemas[i], pl_mp_writer_str(&writer), message, &error) == 0);
    }
    pl_mp_writer_deinit(&writer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_rpc_scanner whole = {0}, parts = {0};
    struct pl_rpc_message message;
    struct pl_rpc_error error;
    size_t bytes = 0, bytes2 = 0;
    int r = pl_rpc_scan(&whole, data, size, MAX_MSG, &bytes);
    int r2 = pl_rpc_scan(&parts, data, size / 2, MAX_MSG, &bytes2);

    if (r2 == PL_MP_E_MORE)
        r2 = pl_rpc_scan(&parts, data, size, MAX_MSG, &bytes2);
    PL_ASSERT(r == r2 && bytes == bytes2);
    if (r != 0)
        return 0;
    PL_ASSERT(bytes <= size);
    if (pl_rpc_parts((struct pl_str){(const char *)data, bytes}, &message) != 0)
        return 0;
    decode_all(message.kind == PL_RPC_REPLY ? message.result : message.params);
    if (message.error.len != 0)
        (void)pl_rpc_error_decode(message.error, &error);
    return 0;
}
