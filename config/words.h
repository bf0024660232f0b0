/* The words of enumerations, shared by the table's rows. Private to config/. */
#ifndef PL_CONFIG_WORDS_H
#define PL_CONFIG_WORDS_H

#include "config/value.h"

extern const struct pl_word pl_words_queue[], pl_words_store[], pl_words_on_full[],
    pl_words_policy[], pl_words_backfill[], pl_words_strategy[], pl_words_boost[], pl_words_kind[],
    pl_words_restart[], pl_words_execution[], pl_words_run_as[], pl_words_requeue[],
    pl_words_check[], pl_words_notifier[], pl_words_body[], pl_words_payload[], pl_words_level[],
    pl_words_format[], pl_words_target[], pl_words_retry_on[], pl_words_jitter[],
    pl_words_unlimited[], pl_words_seccomp[], pl_words_network[], pl_words_priority[];

#endif
