/* Reads one request from stdin, decodes it with the schema of its method, writes it again from the
 * struct. Exit 1 with a message when it does not decode. For test_msgpack.py. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/methods.h"

int
main(void)
{
    static char in[1 << 16];
    static _Alignas(16) char params[8192];
    size_t len = fread(in, 1, sizeof(in), stdin), bytes;
    struct pl_rpc_scanner scanner = {0};
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    const struct pl_method *method;
    struct pl_rpc_message message;
    struct pl_rpc_error error;

    if (pl_rpc_scan(&scanner, in, len, sizeof(in), &bytes) != 0 || bytes != len ||
        pl_rpc_decode((struct pl_str){in, len}, &message) != 0) {
        fprintf(stderr, "no message\n");
        return 1;
    }
    method = pl_method_find(message.method);
    if (method == NULL || method->params->struct_bytes > sizeof(params)) {
        fprintf(stderr, "no method\n");
        return 1;
    }
    if (pl_schema_decode(method->params, message.params, params, &error) != 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    pl_rpc_put_request(&w, message.id, message.method);
    pl_schema_encode(method->params, &w, params);
    fwrite(w.data, 1, w.len, stdout);
    pl_mp_writer_deinit(&w);
    return 0;
}
