#include "config/words.h"

#define A PL_WORD_ALIAS
#define L PL_WORD_LATER

const struct pl_word pl_words_queue[] = {
    {"memory", PL_CONFIG_QUEUE_MEMORY, 0},
    {"lmdb", PL_CONFIG_QUEUE_LMDB, 0},
    {"postgres", PL_CONFIG_QUEUE_POSTGRES, L},
    {"pgmq", PL_CONFIG_QUEUE_PGMQ, L},
    {"in_memory", PL_CONFIG_QUEUE_MEMORY, A},
    {"yaque", PL_CONFIG_QUEUE_LMDB, A},
    {"file", PL_CONFIG_QUEUE_LMDB, A},
    {"postgres_custom", PL_CONFIG_QUEUE_POSTGRES, A | L},
    {"postgres_pgmq", PL_CONFIG_QUEUE_PGMQ, A | L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_store[] = {
    {"memory", PL_CONFIG_STORE_MEMORY, 0},
    {"lmdb", PL_CONFIG_STORE_LMDB, 0},
    {"postgres", PL_CONFIG_STORE_POSTGRES, L},
    {"in_memory", PL_CONFIG_STORE_MEMORY, A},
    {"yaque", PL_CONFIG_STORE_LMDB, A},
    {"file", PL_CONFIG_STORE_LMDB, A},
    {NULL, 0, 0},
};
const struct pl_word pl_words_on_full[] = {
    {"reject", PL_CONFIG_ON_FULL_REJECT, 0},
    {"drop_lowest", PL_CONFIG_ON_FULL_DROP_LOWEST, L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_policy[] = {
    {"priority", PL_CONFIG_POLICY_PRIORITY, 0},
    {"fifo", PL_CONFIG_POLICY_FIFO, 0},
    {"fair_share", PL_CONFIG_POLICY_FAIR_SHARE, L},
    {NULL, 0, 0},
};
/* Until skip-ahead is built, nothing is passed over: the default asks for nothing that is broken.
 */
const struct pl_word pl_words_backfill[] = {
    {"conservative", PL_CONFIG_BACKFILL_CONSERVATIVE, 0},
    {"greedy", PL_CONFIG_BACKFILL_GREEDY, L},
    {"none", PL_CONFIG_BACKFILL_OFF, 0},
    {"off", PL_CONFIG_BACKFILL_OFF, A},
    {NULL, 0, 0},
};
const struct pl_word pl_words_strategy[] = {
    {"none", PL_CONFIG_RETRY_NONE, 0},
    {"fixed", PL_CONFIG_RETRY_FIXED, 0},
    {"exponential", PL_CONFIG_RETRY_EXPONENTIAL, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_boost[] = {
    {"disabled", PL_CONFIG_BOOST_OFF, 0},
    {"standard", PL_CONFIG_BOOST_STANDARD, L},
    {"aggressive", PL_CONFIG_BOOST_AGGRESSIVE, L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_kind[] = {
    {"cpu", PL_CONFIG_WORKER_CPU, 0},
    {"gpu", PL_CONFIG_WORKER_GPU, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_restart[] = {
    {"always", PL_CONFIG_RESTART_ALWAYS, 0},
    {"on-failure", PL_CONFIG_RESTART_ON_FAILURE, 0},
    {"never", PL_CONFIG_RESTART_NEVER, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_execution[] = {
    {"at_least_once", PL_CONFIG_EXECUTION_AT_LEAST_ONCE, 0},
    {"at_most_once", PL_CONFIG_EXECUTION_AT_MOST_ONCE, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_run_as[] = {
    {"instance", PL_CONFIG_RUN_AS_INSTANCE, 0},
    {"owner", PL_CONFIG_RUN_AS_OWNER, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_requeue[] = {
    {"front", PL_CONFIG_REQUEUE_FRONT, 0},
    {"back", PL_CONFIG_REQUEUE_BACK, 0},
    {"drop", PL_CONFIG_REQUEUE_DROP, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_check[] = {
    {"reserved", PL_CONFIG_CHECK_RESERVED, 0},
    {"measured", PL_CONFIG_CHECK_MEASURED, L},
    {"both", PL_CONFIG_CHECK_BOTH, L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_notifier[] = {
    {"none", PL_CONFIG_NOTIFIER_NONE, 0},
    {"http", PL_CONFIG_NOTIFIER_HTTP, 0},
    {"nats", PL_CONFIG_NOTIFIER_NATS, L},
    {"exec", PL_CONFIG_NOTIFIER_EXEC, L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_body[] = {
    {"cloudevents", 1, 0},
    {"standard", 2, L},
    {"raw", 3, L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_payload[] = {
    {"thin", 1, 0},
    {"full", 2, L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_level[] = {
    {"error", PL_CONFIG_LOG_ERROR, 0},  {"warn", PL_CONFIG_LOG_WARN, 0},
    {"info", PL_CONFIG_LOG_INFO, 0},    {"debug", PL_CONFIG_LOG_DEBUG, 0},
    {"warning", PL_CONFIG_LOG_WARN, A}, {NULL, 0, 0},
};
const struct pl_word pl_words_format[] = {
    {"auto", PL_CONFIG_LOG_AUTO, 0},
    {"text", PL_CONFIG_LOG_TEXT, 0},
    {"json", PL_CONFIG_LOG_JSON, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_target[] = {
    {"stderr", PL_CONFIG_LOG_STDERR, 0},
    {"journald", PL_CONFIG_LOG_JOURNALD, 0},
    {"file", PL_CONFIG_LOG_FILE, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_retry_on[] = {
    {"error", PL_CONFIG_RETRY_ON_ERROR, 0},
    {"timeout", PL_CONFIG_RETRY_ON_TIMEOUT, 0},
    {"worker_lost", PL_CONFIG_RETRY_ON_WORKER_LOST, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_jitter[] = {
    {"none", 0, 0},
    {"full", PL_CONFIG_JITTER_FULL, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_unlimited[] = {
    {"unlimited", UINT32_MAX, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_seccomp[] = {
    {"default", 1, L},
    {"strict", 2, L},
    {"none", 3, 0},
    {NULL, 0, 0},
};
const struct pl_word pl_words_network[] = {
    {"allow", 0, 0},
    {"deny", 1, L},
    {NULL, 0, 0},
};
const struct pl_word pl_words_priority[] = {
    {"critical", 0, 0}, {"high", 1, 0},       {"normal", 2, 0},
    {"low", 3, 0},      {"background", 4, 0}, {NULL, 0, 0},
};
