/* The words of numbers that travel. */
#include "proto/methods.h"

#include <string.h>

struct word {
    int value;
    const char *text;
};

#define ROW(name, value, text) {value, text},
static const struct word states[] = {PL_JOB_STATE_TABLE(ROW)};
static const struct word outcomes[] = {PL_OUTCOME_TABLE(ROW)};
static const struct word waits[] = {PL_WAIT_TABLE(ROW)};
#undef ROW
static const struct word priorities[] = {
    {0, "critical"}, {1, "high"}, {2, "normal"}, {3, "low"}, {4, "background"},
};

static const char *
find_text(const struct word *words, size_t count, int value)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i].value == value)
            return words[i].text;
    }
    return NULL;
}

static bool
find_value(const struct word *words, size_t count, struct pl_str text, int *ret_value)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(words[i].text) == text.len && memcmp(words[i].text, text.data, text.len) == 0) {
            *ret_value = words[i].value;
            return true;
        }
    }
    return false;
}

const char *
pl_proto_state_text(int state)
{
    return find_text(states, PL_ARRAY_LEN(states), state);
}

const char *
pl_proto_outcome_text(int outcome)
{
    return find_text(outcomes, PL_ARRAY_LEN(outcomes), outcome);
}

const char *
pl_proto_wait_text(int wait)
{
    return find_text(waits, PL_ARRAY_LEN(waits), wait);
}

bool
pl_proto_state_parse(struct pl_str text, int *ret_value)
{
    return find_value(states, PL_ARRAY_LEN(states), text, ret_value);
}

bool
pl_proto_outcome_parse(struct pl_str text, int *ret_value)
{
    return find_value(outcomes, PL_ARRAY_LEN(outcomes), text, ret_value);
}

bool
pl_proto_wait_parse(struct pl_str text, int *ret_value)
{
    return find_value(waits, PL_ARRAY_LEN(waits), text, ret_value);
}

bool
pl_proto_priority_parse(struct pl_str text, int *ret_value)
{
    return find_value(priorities, PL_ARRAY_LEN(priorities), text, ret_value);
}
