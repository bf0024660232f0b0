#include "proto/rpc.h"

#include "proto/mp_read.h"

/* The first byte of a message: an array of three or four. Anything else will never become one. */
static bool
may_begin(const struct pl_mp_head *head)
{
    return head->type == PL_MP_ARRAY && (head->body == 3 || head->body == 4);
}

/* The innermost level of a scanner, taken out of it while bytes are looked at. */
struct level {
    size_t pos;
    unsigned depth;
    uint32_t left;
    bool is_map;
};

static struct level
innermost(const struct pl_rpc_scanner *scanner)
{
    return (struct level){.pos = scanner->pos,
                          .depth = scanner->depth,
                          .left = scanner->left[scanner->depth],
                          .is_map = scanner->is_map[scanner->depth]};
}

static int
put_back(struct pl_rpc_scanner *scanner, const struct level *at, int outcome)
{
    scanner->pos = at->pos;
    scanner->depth = (uint8_t)at->depth;
    scanner->left[at->depth] = at->left;
    scanner->is_map[at->depth] = at->is_map;
    return outcome;
}

/* Takes one head into account. Return: 0 or why no message can begin like this. */
static inline int
scan_head(struct pl_rpc_scanner *scanner, struct level *at, const struct pl_mp_head *head,
          size_t max_msg)
{
    uint64_t values = head->type == PL_MP_MAP ? head->body * 2 : head->body;

    if (at->depth == 0 && !may_begin(head))
        return PL_MP_E_MALFORMED;
    if (at->is_map && at->left % 2 == 0 && head->type != PL_MP_STR)
        return PL_MP_E_MALFORMED;
    at->left--; /* at depth 0 nobody looks */
    at->pos += head->head_bytes;
    /* What is claimed must fit: bytes of a body, or one byte for each value. */
    if (at->pos > max_msg || values > max_msg - at->pos)
        return PL_MP_E_TOO_LARGE;
    if (!pl_mp_is_container(head->type)) {
        at->pos += (size_t)head->body;
        return 0;
    }
    if (at->depth == PL_MP_DEPTH_MAX)
        return PL_MP_E_DEPTH;
    scanner->left[at->depth] = at->left;
    scanner->is_map[at->depth] = at->is_map;
    at->depth++;
    at->left = (uint32_t)values;
    at->is_map = head->type == PL_MP_MAP;
    return 0;
}

int
pl_rpc_scan(struct pl_rpc_scanner *scanner, const void *data, size_t len, size_t max_msg,
            size_t *ret_bytes)
{
    const uint8_t *bytes = data;
    struct level at = innermost(scanner);
    struct pl_mp_head head;
    int r;

    for (;;) {
        while (at.left == 0 && at.depth > 1) {
            at.depth--;
            at.left = scanner->left[at.depth];
            at.is_map = scanner->is_map[at.depth];
        }
        if (at.left == 0 && at.depth == 1)
            break;
        if (at.pos >= len)
            return put_back(scanner, &at, PL_MP_E_MORE);
        if ((bytes[at.pos] & 0xe0) == 0xa0 && at.depth > 0) {
            /* A short text, as most heads are: every key, every word. Allowed anywhere. */
            at.left--;
            at.pos += 1u + (bytes[at.pos] & 0x1fu);
            if (at.pos > max_msg)
                return put_back(scanner, &at, PL_MP_E_TOO_LARGE);
            continue;
        }
        r = pl_mp_read_head(bytes + at.pos, len - at.pos, &head);
        if (r == 0)
            r = scan_head(scanner, &at, &head, max_msg);
        if (r != 0)
            return put_back(scanner, &at, r);
    }
    if (at.pos > len)
        return put_back(scanner, &at, PL_MP_E_MORE);
    *ret_bytes = at.pos;
    at = (struct level){0};
    return put_back(scanner, &at, 0);
}

size_t
pl_rpc_scan_wants(const struct pl_rpc_scanner *scanner, size_t len)
{
    return scanner->pos > len ? scanner->pos - len : 1;
}

/* ---- the parts of a message: it is whole, so the last part is what is left ---- */

static struct pl_str
rest_of(const struct pl_mp_reader *reader)
{
    return (struct pl_str){(const char *)reader->pos, (size_t)(reader->end - reader->pos)};
}

static bool
take_number(struct pl_mp_reader *reader, uint64_t max, uint64_t *ret_number)
{
    struct pl_mp_value value;

    if (pl_mp_take(reader, &value) != 0 || value.type != PL_MP_UINT || value.u > max)
        return false;
    *ret_number = value.u;
    return true;
}

static bool
take_method(struct pl_mp_reader *reader, struct pl_str *ret_method)
{
    struct pl_mp_value value;

    if (pl_mp_take(reader, &value) != 0 || value.type != PL_MP_STR || !pl_mp_is_text(value.bytes))
        return false;
    *ret_method = value.bytes;
    return true;
}

/* [map] or []: one map of parameters, or none. */
static bool
take_params(struct pl_mp_reader *reader, struct pl_str *ret_map)
{
    static const char empty[1] = {(char)0x80};
    struct pl_mp_value list;

    if (pl_mp_take(reader, &list) != 0 || list.type != PL_MP_ARRAY || list.count > 1)
        return false;
    *ret_map = list.count == 1 ? rest_of(reader) : (struct pl_str){empty, 1};
    return true;
}

/* nil, or [code, message, data]. */
static bool
take_error(struct pl_mp_reader *reader, struct pl_str *ret_error)
{
    if (pl_mp_skip(reader, 1, ret_error) != 0)
        return false;
    if (pl_mp_is_nil(*ret_error))
        *ret_error = (struct pl_str){0};
    return true;
}

static bool
take_parts(struct pl_mp_reader *reader, struct pl_rpc_message *message)
{
    struct pl_mp_value head;
    uint64_t kind, id;

    if (pl_mp_take(reader, &head) != 0 || head.type != PL_MP_ARRAY ||
        !take_number(reader, PL_RPC_NOTIFY, &kind))
        return false;
    message->kind = (enum pl_rpc_kind)kind;
    if (head.count != (kind == PL_RPC_NOTIFY ? 3u : 4u))
        return false;
    if (kind == PL_RPC_NOTIFY)
        return take_method(reader, &message->method) && take_params(reader, &message->params);
    if (!take_number(reader, UINT32_MAX, &id))
        return false;
    message->id = (uint32_t)id;
    if (kind == PL_RPC_REPLY) {
        if (!take_error(reader, &message->error))
            return false;
        message->result = rest_of(reader);
        return true;
    }
    return take_method(reader, &message->method) && take_params(reader, &message->params);
}

int
pl_rpc_parts(struct pl_str raw, struct pl_rpc_message *ret_message)
{
    struct pl_mp_reader reader = pl_mp_reader(raw);

    *ret_message = (struct pl_rpc_message){0};
    return take_parts(&reader, ret_message) ? 0 : PL_MP_E_MALFORMED;
}

int
pl_rpc_decode(struct pl_str raw, struct pl_rpc_message *ret_message)
{
    struct pl_rpc_scanner scanner = {0};
    size_t bytes;
    int r = pl_rpc_scan(&scanner, raw.data, raw.len, SIZE_MAX / 2, &bytes);

    if (r == 0 && bytes != raw.len)
        r = PL_MP_E_MALFORMED;
    return r == 0 ? pl_rpc_parts(raw, ret_message) : r;
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
