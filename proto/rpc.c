#include "proto/rpc.h"

#include "proto/mp_read.h"

#include <limits.h>

/* The first byte of a message: an array of three or four. Anything else will never become one. */
static int
check_first(const struct pl_mp_head *head)
{
    return head->type == PL_MP_ARRAY && (head->body == 3 || head->body == 4) ? 0
                                                                             : PL_MP_E_MALFORMED;
}

/* Takes one head into account. Return: 0 or why no message can begin like this. */
static int
scan_head(struct pl_rpc_scanner *scanner, const struct pl_mp_head *head, size_t max_msg)
{
    bool container = head->type == PL_MP_ARRAY || head->type == PL_MP_MAP;
    unsigned depth = scanner->depth;
    uint64_t values = head->type == PL_MP_MAP ? head->body * 2 : head->body;

    if (depth == 0) {
        if (check_first(head) != 0)
            return PL_MP_E_MALFORMED;
    } else {
        if (scanner->is_map[depth] && scanner->left[depth] % 2 == 0 && head->type != PL_MP_STR)
            return PL_MP_E_MALFORMED;
        scanner->left[depth]--;
    }
    scanner->pos += head->head_bytes;
    /* What is claimed must fit: bytes of a body, or one byte for each value. */
    if (scanner->pos > max_msg || values > max_msg - scanner->pos)
        return PL_MP_E_TOO_LARGE;
    if (!container) {
        scanner->pos += (size_t)head->body;
        return 0;
    }
    if (depth == PL_MP_DEPTH_MAX)
        return PL_MP_E_DEPTH;
    scanner->depth++;
    scanner->left[scanner->depth] = (uint32_t)values;
    scanner->is_map[scanner->depth] = head->type == PL_MP_MAP;
    return 0;
}

int
pl_rpc_scan(struct pl_rpc_scanner *scanner, const void *data, size_t len, size_t max_msg,
            size_t *ret_bytes)
{
    const uint8_t *bytes = data;
    struct pl_mp_head head;
    int r;

    for (;;) {
        while (scanner->depth > 0 && scanner->left[scanner->depth] == 0) {
            if (scanner->depth > 1) {
                scanner->depth--;
                continue;
            }
            if (scanner->pos > len)
                return PL_MP_E_MORE;
            *ret_bytes = scanner->pos;
            *scanner = (struct pl_rpc_scanner){0};
            return 0;
        }
        if (scanner->pos >= len)
            return PL_MP_E_MORE;
        r = pl_mp_read_head(bytes + scanner->pos, len - scanner->pos, &head);
        if (r == 0)
            r = scan_head(scanner, &head, max_msg);
        if (r != 0)
            return r;
    }
}

size_t
pl_rpc_scan_wants(const struct pl_rpc_scanner *scanner, size_t len)
{
    return scanner->pos > len ? scanner->pos - len : 1;
}

/* [map] or []: one map of parameters, or none. */
static int
decode_params(struct pl_str raw, struct pl_str *ret_map)
{
    static const char empty[1] = {(char)0x80};
    struct pl_mp_iter iter;
    struct pl_str map;
    int r = pl_mp_list_open(raw, &iter);

    if (r != 0)
        return PL_MP_E_MALFORMED;
    if (iter.count == 0) {
        *ret_map = (struct pl_str){empty, 1};
        return 0;
    }
    if (iter.count != 1 || !pl_mp_list_next(&iter, &map))
        return PL_MP_E_MALFORMED;
    *ret_map = map;
    return 0;
}

/* The parts of a message by kind; each is already known to be whole. */
static int
decode_parts(const struct pl_str part[4], uint32_t count, struct pl_rpc_message *message)
{
    uint64_t kind, id = 0;

    if (pl_mp_get_u64(part[0], &kind) != 0 || kind > PL_RPC_NOTIFY)
        return PL_MP_E_MALFORMED;
    message->kind = (enum pl_rpc_kind)kind;
    if (count != (kind == PL_RPC_NOTIFY ? 3u : 4u))
        return PL_MP_E_MALFORMED;
    if (kind == PL_RPC_NOTIFY) {
        if (pl_mp_get_text(part[1], &message->method) != 0)
            return PL_MP_E_MALFORMED;
        return decode_params(part[2], &message->params);
    }
    if (pl_mp_get_u64(part[1], &id) != 0 || id > UINT32_MAX)
        return PL_MP_E_MALFORMED;
    message->id = (uint32_t)id;
    if (kind == PL_RPC_REPLY) {
        message->error = pl_mp_is_nil(part[2]) ? (struct pl_str){0} : part[2];
        message->result = part[3];
        return 0;
    }
    if (pl_mp_get_text(part[2], &message->method) != 0)
        return PL_MP_E_MALFORMED;
    return decode_params(part[3], &message->params);
}

int
pl_rpc_decode(struct pl_str raw, struct pl_rpc_message *ret_message)
{
    struct pl_rpc_message message = {0};
    struct pl_mp_reader reader = pl_mp_reader(raw);
    struct pl_str part[4] = {0};
    struct pl_mp_value head;
    int r = pl_mp_next(&reader, &head);

    if (r != 0)
        return r;
    if (head.type != PL_MP_ARRAY || head.count < 3 || head.count > 4)
        return PL_MP_E_MALFORMED;
    for (uint32_t i = 0; i < head.count; i++) {
        r = pl_mp_skip(&reader, 1, &part[i]);
        if (r != 0)
            return r;
    }
    if (reader.pos != reader.end)
        return PL_MP_E_MALFORMED;
    r = decode_parts(part, head.count, &message);
    *ret_message = message;
    return r;
}

void
pl_rpc_put_request(struct pl_mp_writer *writer, uint32_t id, struct pl_str method)
{
    pl_mp_put_list(writer, 4);
    pl_mp_put_u64(writer, PL_RPC_REQUEST);
    pl_mp_put_u64(writer, id);
    pl_mp_put_text(writer, method);
    pl_mp_put_list(writer, 1);
}

void
pl_rpc_put_notify(struct pl_mp_writer *writer, struct pl_str method)
{
    pl_mp_put_list(writer, 3);
    pl_mp_put_u64(writer, PL_RPC_NOTIFY);
    pl_mp_put_text(writer, method);
    pl_mp_put_list(writer, 1);
}

void
pl_rpc_put_reply(struct pl_mp_writer *writer, uint32_t id)
{
    pl_mp_put_list(writer, 4);
    pl_mp_put_u64(writer, PL_RPC_REPLY);
    pl_mp_put_u64(writer, id);
    pl_mp_put_nil(writer);
}

void
pl_rpc_put_error(struct pl_mp_writer *writer, uint32_t id, const struct pl_rpc_error *error)
{
    pl_mp_put_list(writer, 4);
    pl_mp_put_u64(writer, PL_RPC_REPLY);
    pl_mp_put_u64(writer, id);
    pl_rpc_error_encode(writer, error);
    pl_mp_put_nil(writer);
}
