/* api.describe: the tables of this build, told to whoever asks. */
#include "proto/methods.h"

#include <string.h>

static struct pl_str
text_of(const char *text)
{
    return (struct pl_str){.data = text, .len = strlen(text)};
}

const char *
pl_field_kind_text(unsigned kind)
{
    switch ((enum pl_field_kind)kind) {
    case PL_KIND_flag:
        return "bool";
    case PL_KIND_u32:
        return "uint32";
    case PL_KIND_u64:
        return "uint64";
    case PL_KIND_i32:
        return "int32";
    case PL_KIND_i64:
        return "int64";
    case PL_KIND_text:
        return "text";
    case PL_KIND_bytes:
        return "bytes";
    case PL_KIND_uuid:
        return "id";
    case PL_KIND_state:
        return "state";
    case PL_KIND_outcome:
        return "outcome";
    case PL_KIND_wait:
        return "reason";
    case PL_KIND_priority:
        return "priority, 0 to 4 or its word";
    case PL_KIND_cost:
        return "cost, an integer or a map of integers";
    case PL_KIND_list:
        return "list";
    case PL_KIND_map:
        return "map";
    case PL_KIND_any:
        return "any";
    case PL_KIND_limits:
        return "limits";
    }
    return "unknown";
}

static void
put_key(struct pl_mp_writer *writer, const char *key)
{
    pl_mp_put_text(writer, text_of(key));
}

static void
put_fields(struct pl_mp_writer *writer, const struct pl_schema *schema)
{
    static const char *const flags[] = {"optional", "always", "required"};

    pl_mp_put_list(writer, schema->field_count);
    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        pl_mp_put_list(writer, 4);
        put_key(writer, field->name);
        put_key(writer, pl_field_kind_text(field->kind));
        put_key(writer, flags[field->flags]);
        put_key(writer, field->doc);
    }
}

static void
put_method(struct pl_mp_writer *writer, const struct pl_method *method)
{
    pl_mp_put_map(writer, 4);
    put_key(writer, "name");
    pl_mp_put_text(writer, method->name);
    put_key(writer, "admin");
    pl_mp_put_bool(writer, method->admin);
    put_key(writer, "params");
    put_fields(writer, method->params);
    put_key(writer, "result");
    put_fields(writer, method->result);
}

static void
put_note(struct pl_mp_writer *writer, const struct pl_note *note)
{
    pl_mp_put_map(writer, 3);
    put_key(writer, "name");
    pl_mp_put_text(writer, note->name);
    put_key(writer, "to_server");
    pl_mp_put_bool(writer, note->to_server);
    put_key(writer, "fields");
    put_fields(writer, note->fields);
}

static void
put_status(struct pl_mp_writer *writer)
{
    uint32_t count = 0;

#define COUNT(name, code, exit_status, http, text) count++;
    PL_STATUS_TABLE(COUNT)
#undef COUNT
    pl_mp_put_list(writer, count);
#define ROW(name, code, exit_status, http, text)                                                   \
    pl_mp_put_list(writer, 3);                                                                     \
    pl_mp_put_i64(writer, code);                                                                   \
    put_key(writer, #name);                                                                        \
    put_key(writer, text);
    PL_STATUS_TABLE(ROW)
#undef ROW
}

void
pl_describe_encode(struct pl_mp_writer *writer, struct pl_str version)
{
    pl_mp_put_map(writer, 5);
    put_key(writer, "proto");
    pl_mp_put_u64(writer, PL_RPC_PROTO_VERSION);
    put_key(writer, "version");
    pl_mp_put_text(writer, version);
    put_key(writer, "methods");
    pl_mp_put_list(writer, PL_METHOD_COUNT);
    for (unsigned i = 0; i < PL_METHOD_COUNT; i++)
        put_method(writer, pl_method_get((enum pl_method_id)i));
    put_key(writer, "notifications");
    pl_mp_put_list(writer, PL_NOTE_COUNT);
    for (unsigned i = 0; i < PL_NOTE_COUNT; i++)
        put_note(writer, pl_note_get((enum pl_note_id)i));
    put_key(writer, "status");
    put_status(writer);
}
