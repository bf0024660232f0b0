/*
 * Messages written by their table, and the values that hold others.
 */
#include "proto/methods.h"
#include "proto/schema_write.h"

static void
encode_cost_value(struct pl_mp_writer *writer, const struct pl_req_cost_item *item)
{
    if (item->count <= 1) {
        pl_mp_put_u64(writer, item->units);
        return;
    }
    pl_mp_put_map(writer, 2);
    pl_mp_put_text(writer, PL_STR("units"));
    pl_mp_put_u64(writer, item->units);
    pl_mp_put_text(writer, PL_STR("count"));
    pl_mp_put_u64(writer, item->count);
}

static void
encode_cost(struct pl_mp_writer *writer, const struct pl_req_cost *cost)
{
    PL_ASSERT(cost->count <= PL_REQ_COST_MAX);
    if (cost->count == 1 && cost->item[0].kind.len == 0) {
        pl_mp_put_u64(writer, cost->item[0].units);
        return;
    }
    pl_mp_put_map(writer, cost->count);
    for (uint32_t i = 0; i < cost->count; i++) {
        pl_mp_put_text(writer, cost->item[i].kind);
        encode_cost_value(writer, &cost->item[i]);
    }
}

/* A field that is always sent, but has no bytes: the empty value of its kind. */
static void
encode_raw(struct pl_mp_writer *writer, unsigned kind, const struct pl_str *raw)
{
    if (raw->data != NULL)
        pl_mp_put_raw(writer, *raw);
    else if (kind == PL_KIND_list)
        pl_mp_put_list(writer, 0);
    else if (kind == PL_KIND_map)
        pl_mp_put_map(writer, 0);
    else
        pl_mp_put_nil(writer);
}

/* What holds other values; its key is written. */
void
pl_schema_encode_holder(struct pl_mp_writer *writer, const struct pl_field *field, const void *at)
{
    if (field->kind == PL_KIND_cost)
        encode_cost(writer, at);
    else if (field->kind == PL_KIND_limits)
        pl_rep_limits_encode(writer, at);
    else
        encode_raw(writer, field->kind, at);
}

void
pl_schema_encode(const struct pl_schema *schema, struct pl_mp_writer *writer, const void *message)
{
    uint64_t sent = 0;
    size_t room = PL_MP_HEAD_MAX;

    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        const void *at = pl_field_member(field, message);
        if (field->flags == PL_FIELD_O && !pl_field_is_set(field, at))
            continue;
        sent |= 1ull << i;
        room += pl_field_room(field, at);
    }
    uint8_t *to = pl_mp_room(writer, room);
    if (to == NULL)
        return;
    to = pl_mp_pack_map_head(to, (uint32_t)__builtin_popcountll(sent));
    for (; sent != 0 && to != NULL; sent &= sent - 1) {
        const struct pl_field *field = &schema->field[__builtin_ctzll(sent)];
        const void *at = pl_field_member(field, message);
        room -= pl_field_room(field, at);
        to = pl_field_write(writer, to, room, field, at);
    }
    if (to != NULL)
        pl_mp_packed(writer, to);
}
