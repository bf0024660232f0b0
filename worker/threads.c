/*
 * Executor threads: a queue under the mutex of this process. Jobs of a thread-safe plugin run side
 * by side, those of a plain one after the other; the channel thread goes on meanwhile.
 */
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* How long threads may take to return from the plugin after their last job. */
#define JOIN_SECONDS 2

/* Waits for work. Return: how many jobs were taken, 0 at the end. */
static size_t
take(struct pl_exec_host *host, struct pl_exec_job **jobs)
{
    size_t max = pl_takes_batches(host) ? PL_EXEC_BATCH_MAX : 1, count = 0;
    pthread_mutex_lock(&host->lock);
    while (host->queue_first == NULL && !host->threads_end)
        pthread_cond_wait(&host->work, &host->lock);
    while (count < max && host->queue_first != NULL) {
        struct pl_exec_job *job = host->queue_first;
        host->queue_first = job->next;
        if (host->queue_first == NULL)
            host->queue_end = &host->queue_first;
        job->next = NULL;
        job->queued = false;
        jobs[count++] = job;
    }
    pthread_mutex_unlock(&host->lock);
    return count;
}

static void *
run(void *argument)
{
    struct pl_exec_host *host = argument;
    struct pl_exec_job *jobs[PL_EXEC_BATCH_MAX];
    size_t count;
    pl_words_thread();
    while ((count = take(host, jobs)) > 0)
        pl_jobs_run(host, jobs, count);
    return NULL;
}

void
pl_threads_give(struct pl_exec_host *host, struct pl_exec_job *job)
{
    pthread_mutex_lock(&host->lock);
    job->queued = true;
    job->next = NULL;
    *host->queue_end = job;
    host->queue_end = &job->next;
    pthread_cond_signal(&host->work);
    pthread_mutex_unlock(&host->lock);
}

int
pl_thread_start(struct pl_exec_host *host, void *(*start)(void *host), pthread_t *ret_thread)
{
    /* Signals of the process are the channel thread's business. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(ret_thread, NULL, start, host);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

int
pl_threads_start(struct pl_exec_host *host)
{
    host->queue_end = &host->queue_first;
    host->thread_count = (host->plugin->flags & PL_EXEC_THREAD_SAFE) != 0 ? host->concurrency : 1;
    host->threads = calloc(host->thread_count, sizeof(*host->threads));
    int rc = host->threads == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < host->thread_count && rc == 0; i++)
        rc = pl_thread_start(host, run, &host->threads[i]);
    return rc;
}

bool
pl_threads_stop(struct pl_exec_host *host)
{
    pthread_mutex_lock(&host->lock);
    host->threads_end = true;
    pthread_cond_broadcast(&host->work);
    pthread_mutex_unlock(&host->lock);
    /* One may have completed its job and not returned from the plugin. */
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += JOIN_SECONDS;
    for (uint32_t i = 0; i < host->thread_count; i++)
        if (pthread_clockjoin_np(host->threads[i], NULL, CLOCK_MONOTONIC, &until) != 0)
            return false; /* the process ends with them */
    free(host->threads);
    host->threads = NULL;
    host->thread_count = 0;
    return true;
}
