/*
 * Last words: a crash writes what it knows into the worker's own segment, then dies as it would
 * have died without us, so that the parent sees the true signal.
 */
#include "worker/worker.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct pl_exec_host *crash_host;
static __thread const struct pl_exec_job *this_job;

#define THREAD_STACK_BYTES (32u << 10)

/* Large enough for the handler; the thread that crashed may have overrun its own stack. */
static uint8_t handler_stack[64 << 10];

void
pl_words_job(const struct pl_exec_job *job)
{
    this_job = job;
}

/* Async-signal-safe: no stdio. */
static size_t
append(char *to, size_t at, size_t max, const char *text)
{
    while (*text != '\0' && at + 1 < max)
        to[at++] = *text++;
    to[at] = '\0';
    return at;
}

static void
on_crash(int signo, siginfo_t *info, void *context)
{
    (void)context;
    struct pl_last_words words = {.signal = (uint32_t)signo, .slot = PL_SLOT_NONE};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    words.at_ns = (int64_t)now.tv_sec * PL_NS_PER_S + now.tv_nsec;
    words.address = (uint64_t)(uintptr_t)info->si_addr;
    size_t at = append(words.text, 0, sizeof(words.text), "plugin ");
    at = append(words.text, at, sizeof(words.text),
                crash_host->plugin != NULL ? crash_host->plugin->name : crash_host->plugin_path);
    const struct pl_exec_job *job = this_job;
    if (job != NULL) {
        words.slot = job->slot;
        at = append(words.text, at, sizeof(words.text), " crashed in job ");
        append(words.text, at, sizeof(words.text), job->id);
    } else {
        append(words.text, at, sizeof(words.text), " crashed outside of a job");
    }
    pl_channel_write_last_words(&crash_host->channel, &words);
    if (pl_is_orphan(crash_host) || pl_is_adrift(crash_host))
        pl_orphan_end(); /* nobody else ends what it leaves */
    raise(signo);        /* the default action was restored by SA_RESETHAND */
}

void
pl_words_lost_fds(struct pl_exec_host *host)
{
    struct pl_last_words words = {.slot = PL_SLOT_NONE};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    words.at_ns = (int64_t)now.tv_sec * PL_NS_PER_S + now.tv_nsec;
    size_t at = append(words.text, 0, sizeof(words.text), "plugin ");
    at = append(words.text, at, sizeof(words.text),
                host->plugin != NULL ? host->plugin->name : host->plugin_path);
    append(words.text, at, sizeof(words.text), " closed descriptors of its worker");
    pl_channel_write_last_words(&host->channel, &words);
    if (pl_is_orphan(host) || pl_is_adrift(host))
        pl_orphan_end();
    _exit(PL_EXIT_CHANNEL);
}

void
pl_words_thread(void)
{
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_DISABLE) == 0)
        return; /* a sanitizer's */
    stack = (stack_t){.ss_sp = malloc(THREAD_STACK_BYTES), .ss_size = THREAD_STACK_BYTES};
    if (stack.ss_sp != NULL)
        (void)sigaltstack(&stack, NULL); /* kept: threads end with the process */
}

void
pl_words_install(struct pl_exec_host *host)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    crash_host = host;
    stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof(handler_stack)};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_crash,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
}
