#include "client/connection.h"

#include <stdlib.h>
#include <string.h>

const char *
pl_status_name(int status)
{
    return pl_rpc_status_name(status);
}

const char *
pl_status_text(int status)
{
    return pl_rpc_status_text(status);
}

int
pl_status_exit(int status)
{
    static const int exits[][2] = {
#define ROW(name, code, exit_status, http, text) {code, exit_status},
        PL_STATUS_TABLE(ROW)
#undef ROW
    };

    for (size_t i = 0; i < PL_ARRAY_LEN(exits); i++) {
        if (exits[i][0] == status)
            return exits[i][1];
    }
    return 1;
}

const char *
pl_state_name(int state)
{
    const char *text = pl_proto_state_text(state);
    return text != NULL ? text : "unknown";
}

const char *
pl_outcome_name(int outcome)
{
    const char *text = pl_proto_outcome_text(outcome);
    return text != NULL ? text : "unknown";
}

int
pl_outcome_status(int outcome)
{
    switch ((enum pl_outcome)outcome) {
    case PL_OUTCOME_SUCCEEDED:
        return PL_OK;
    case PL_OUTCOME_FAILED:
        return PL_E_FAILED;
    case PL_OUTCOME_CRASHED:
        return PL_E_CRASHED;
    case PL_OUTCOME_TIMED_OUT:
        return PL_E_TIMED_OUT;
    case PL_OUTCOME_CANCELLED:
        return PL_E_CANCELLED;
    case PL_OUTCOME_EXPIRED:
        return PL_E_EXPIRED;
    case PL_OUTCOME_DROPPED:
        return PL_E_DROPPED;
    case PL_OUTCOME_NONE:
        return PL_E_NOT_READY;
    }
    return PL_E_INTERNAL;
}

unsigned
pl_version(void)
{
    return PL_VERSION_MAJOR << 16 | PL_VERSION_MINOR << 8 | PL_VERSION_PATCH;
}

char *
pl_id_format(struct pl_id id, char text[37])
{
    struct pl_uuid uuid;

    memcpy(uuid.b, id.b, sizeof(uuid.b));
    return pl_uuid_format(&uuid, text);
}

int
pl_id_parse(const char *text, struct pl_id *ret_id)
{
    struct pl_uuid uuid;

    if (text == NULL || !pl_uuid_parse(text, strlen(text), &uuid))
        return PL_E_INVALID;
    memcpy(ret_id->b, uuid.b, sizeof(ret_id->b));
    return PL_OK;
}

void
pl_free(void *memory)
{
    free(memory);
}
