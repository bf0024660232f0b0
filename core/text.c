/* The words behind the numbers. */
#include "core/core.h"

#define TEXT_CASE(name, code, text)                                                                \
    case code:                                                                                     \
        return text;
#define TEXT_FUNCTION(function, TABLE)                                                             \
    const char *function(uint32_t number)                                                          \
    {                                                                                              \
        switch (number) {                                                                          \
            TABLE(TEXT_CASE)                                                                       \
        default:                                                                                   \
            return "";                                                                             \
        }                                                                                          \
    }

TEXT_FUNCTION(pl_reason_text, PL_REASON_TABLE)
TEXT_FUNCTION(pl_core_event_key, PL_CORE_EVENT_TABLE)
TEXT_FUNCTION(pl_core_outcome_text, PL_OUTCOME_TABLE)
TEXT_FUNCTION(pl_core_job_state_text, PL_JOB_STATE_TABLE)
TEXT_FUNCTION(pl_core_wait_text, PL_WAIT_TABLE)
