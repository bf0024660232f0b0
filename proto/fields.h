/*
 * Every message of the profile, field by field: F(T, kind, name, flags, default,
 * doc); T is handed through (the struct, where it is wanted).
 * kind and flags: proto/schema.h. A new optional field may be added at any time; one that exists
 * never changes its name, kind or meaning. All times in milliseconds; *_at_ms and deadlines are
 * wall clock since 1970, the rest durations. Units of byte-sized resources are bytes.
 */
#ifndef PL_PROTO_FIELDS_H
#define PL_PROTO_FIELDS_H

/* clang-format off */

/* ---- rows that several messages have ---- */

/* Whose mailbox the outcome goes to. */
#define PL_ROWS_key(F, T) \
    F(T, text, tenant,  O, 0, "") \
    F(T, text, user,    O, 0, "") \
    F(T, text, session, O, 0, "")

#define PL_ROWS_worker(F, T) \
    F(T, text, worker,     O, 0, "") \
    F(T, u32,  worker_pid, O, 0, "")

#define PL_ROWS_begin(F, T) \
    F(T, i64, submitted_at_ms, A, 0, "") \
    F(T, i64, started_at_ms,   O, 0, "last attempt")

#define PL_ROWS_place(F, T) \
    F(T, text, pool, A, 0, "") \
    F(T, text, lane, A, 0, "") \
    F(T, text, type, A, 0, "")

/* Of a list: what is wanted; absent: everything. */
#define PL_ROWS_filter(F, T) \
    F(T, text, pool, O, 0, "") \
    F(T, text, lane, O, 0, "") \
    F(T, text, type, O, 0, "a glob")

#define PL_ROWS_counts(F, T) \
    F(T, u64, queued,   A, 0, "") \
    F(T, u64, running,  A, 0, "") \
    F(T, u64, delayed,  A, 0, "") \
    F(T, u64, retrying, A, 0, "")

/* ---- messages ---- */

#define PL_FIELDS_req_hello(F, T) \
    F(T, u32,  proto,     R, 0, "major version of the profile: 1") \
    F(T, text, client,    O, 0, "name and version of the client, for lists and logs") \
    F(T, uuid, client_id, O, 0, "identity that goes with seq over reconnects; chosen by the client") \
    F(T, list, features,  O, 0, "names of optional features the client would use")

#define PL_FIELDS_rep_limits(F, T) \
    F(T, u64, max_msg,      A, 0, "bytes of one message") \
    F(T, u64, max_payload,  A, 0, "bytes of one payload") \
    F(T, u32, max_inflight, A, 0, "requests without reply on one connection")

#define PL_FIELDS_rep_hello(F, T) \
    F(T, u32,    proto,    R, 0, "major version of the profile: 1") \
    F(T, text,   server,   A, 0, "name and version of the server") \
    F(T, text,   version,  A, 0, "version alone") \
    F(T, text,   instance, A, 0, "name of the instance") \
    F(T, u64,    epoch,    A, 0, "counts the supervisors of this instance") \
    F(T, list,   features, A, 0, "names of optional features offered") \
    F(T, limits, limits,   A, 0, "limits of this connection") \
    F(T, u32,    uid,      A, 0, "uid of the peer as the kernel told it") \
    F(T, text,   tenant,   A, 0, "tenant of jobs that name none") \
    F(T, flag,   admin,    A, 0, "may change pools and see jobs of others")

/* Nobody sends nothing: methods without params or result use this. */
#define PL_FIELDS_req_none(F, T) \
    F(T, flag, dry_run, O, 0, "reserved")

#define PL_FIELDS_rep_ok(F, T) \
    F(T, u32, changed, O, 0, "how many things changed")

#define PL_FIELDS_req_job_submit(F, T) \
    F(T, text,     pool,                 O, 0, "pool; may be left out when the instance has one") \
    F(T, text,     type,                 R, 0, "job type, matched against the groups' handles") \
    F(T, bytes,    payload,              O, 0, "the job's input") \
    F(T, u64,      seq,                  O, 0, "the client's own number: with client_id it makes a repeat harmless") \
    F(T, text,     lane,                 O, 0, "lane; else the pool's default_lane") \
    F(T, cost,     cost,                 O, 0, "units by kind, or one number; absent: the type's, lane's or pool's default") \
    F(T, priority, priority,             O, -1, "0 critical, 1 high, 2 normal, 3 low, 4 background") \
    F(T, map,      meta,                 O, 0, "str to bin or str, handed to the executor") \
    F(T, text,     content_type,         O, 0, "of the payload") \
    F(T, i64,      timeout_ms,           O, 0, "running time of an attempt; 0: lane's or pool's") \
    F(T, i64,      deadline_ms,          O, 0, "wall clock; not started by then: expired; 0: none") \
    F(T, i64,      run_at_ms,            O, 0, "wall clock; not before; 0: now") \
    F(T, i64,      delay_ms,             O, 0, "not before this much from now") \
    F(T, i64,      max_wait_ms,          O, 0, "refuse (BUSY) when the estimated wait is greater; 0: no gate") \
    F(T, flag,     no_wait,              O, 0, "start now or refuse (BUSY)") \
    F(T, i32,      max_retries,          O, -1, "-1: the lane's policy") \
    F(T, flag,     hold,                 O, 0, "do not run before job.release") \
    F(T, flag,     preemptible,          O, 0, "may be stopped for more urgent work") \
    F(T, flag,     at_most_once,         O, 0, "never start twice; after a crash it ends failed, interrupted") \
    F(T, flag,     cancel_on_disconnect, O, 0, "cancel when this connection ends") \
    F(T, text,     idempotency_key,      O, 0, "the same key returns the first job") \
    F(T, text,     tenant,               O, 0, "mailbox key; only administrators may name another tenant") \
    F(T, text,     user,                 O, 0, "mailbox key") \
    F(T, text,     session,              O, 0, "mailbox key and affinity") \
    F(T, text,     model,                O, 0, "affinity: prefer a worker that has it loaded") \
    F(T, text,     concurrency_key,      O, 0, "limit those with the same key") \
    F(T, u32,      max_per_key,          O, 0, "at most so many running with the key") \
    F(T, list,     after,                O, 0, "ids of jobs that must succeed first") \
    F(T, map,      labels,               O, 0, "str to str") \
    F(T, text,     traceparent,          O, 0, "W3C Trace Context") \
    F(T, text,     tracestate,           O, 0, "W3C Trace Context") \
    F(T, text,     notify,               O, 0, "a configured webhook: it is told how the job ended") \
    F(T, flag,     stream,               O, 0, "keep output as a stream for job.follow") \
    F(T, flag,     dry_run,              O, 0, "answer as if, change nothing")

#define PL_FIELDS_rep_ticket(F, T) \
    F(T, uuid,  id,        A, 0, "the job") \
    F(T, state, state,     A, 0, "state after the submit") \
    F(T, u32,   position,  A, 0, "1 is next; 0 when it runs or waits for another reason than order") \
    F(T, i64,   eta_ms,    O, -1, "estimated wait; absent: unknown") \
    F(T, flag,  duplicate, A, 0, "this is an earlier job with the same key or seq") \
    F(T, flag,  started,   A, 0, "it was started by this submit")

#define PL_FIELDS_req_job_submit_many(F, T) \
    F(T, list, jobs, R, 0, "params maps of job.submit")

/* An element of results is a ticket map, or an error array [code, message, data]. */
#define PL_FIELDS_rep_job_submit_many(F, T) \
    F(T, list, results, R, 0, "a ticket or an error for each, in order")

/* on_timeout: detach (default), cancel_if_queued, cancel. */
#define PL_FIELDS_req_job_wait(F, T) \
    F(T, uuid, id,         O, 0, "one job") \
    F(T, list, ids,        O, 0, "or several: the reply is the first of them to end") \
    F(T, i64,  timeout_ms, O, -1, "-1: for ever; 0: look only") \
    F(T, text, on_timeout, O, 0, "detach, cancel_if_queued, cancel") \
    F(T, flag, result,     O, 0, "with the result's bytes")

/* Also the reply of job.result, the elements of mailbox.fetch, and a part of `end`. */
#define PL_FIELDS_rep_outcome(F, T) \
    F(T, uuid,    id,              R, 0, "the job") \
    F(T, outcome, outcome,         R, 0, "how it ended") \
    F(T, text,    pool,            A, 0, "") \
    F(T, text,    lane,            O, 0, "") \
    F(T, text,    type,            A, 0, "") \
    F(T, state,   state,           O, 0, "6: ended") \
    F(T, u32,     attempt,         A, 0, "attempts made") \
    F(T, i32,     exit_code,       O, -1, "of a program, when it exited; absent else") \
    F(T, i32,     signal,          O, 0, "that ended the program or worker") \
    F(T, text,    error,           O, 0, "why it did not succeed") \
    F(T, text,    reason,          O, 0, "one word: preempted, interrupted, or the reason of a cancel") \
    F(T, bytes,   result,          O, 0, "") \
    F(T, u64,     result_bytes,    O, 0, "size of the result, sent or not") \
    F(T, text,    content_type,    O, 0, "of the result") \
    PL_ROWS_begin(F, T) \
    F(T, i64,     finished_at_ms,  A, 0, "") \
    PL_ROWS_worker(F, T) \
    PL_ROWS_key(F, T) \
    F(T, map,     meta,            O, 0, "what the executor said beside the result")

#define PL_FIELDS_req_job_id(F, T) \
    F(T, uuid, id,     R, 0, "the job") \
    F(T, text, reason, O, 0, "for the record and the listeners")

/* force: skip the grace, kill at once. */
#define PL_FIELDS_req_job_cancel(F, T) \
    F(T, uuid, id,     R, 0, "the job") \
    F(T, text, reason, O, 0, "kept in its outcome") \
    F(T, flag, force,  O, 0, "kill at once, without the grace period")

#define PL_FIELDS_rep_job_cancel(F, T) \
    F(T, uuid,  id,    A, 0, "the job") \
    F(T, state, state, A, 0, "ended: it was queued and is gone; running: it was asked to stop")

/* job.get, and the elements of job.list. */
#define PL_FIELDS_rep_job(F, T) \
    F(T, uuid,    id,              R, 0, "") \
    F(T, state,   state,           R, 0, "") \
    PL_ROWS_place(F, T) \
    F(T, outcome, outcome,         O, 0, "when it has ended") \
    F(T, u32,     attempt,         A, 0, "0: never started") \
    F(T, priority, priority,       O, -1, "") \
    F(T, cost,    cost,            O, 0, "units it holds or wants") \
    F(T, u32,     position,        O, 0, "in its lane, 1 is next") \
    F(T, i64,     eta_ms,          O, -1, "estimated wait") \
    F(T, wait,    wait,            O, 0, "why it does not run yet") \
    PL_ROWS_key(F, T) \
    F(T, u32,     uid,             O, 0, "of the owner") \
    PL_ROWS_worker(F, T) \
    PL_ROWS_begin(F, T) \
    F(T, i64,     finished_at_ms,  O, 0, "") \
    F(T, i64,     run_at_ms,       O, 0, "") \
    F(T, i64,     deadline_ms,     O, 0, "") \
    F(T, i64,     timeout_ms,      O, 0, "") \
    F(T, i32,     exit_code,       O, -1, "") \
    F(T, i32,     signal,          O, 0, "") \
    F(T, text,    error,           O, 0, "") \
    F(T, text,    reason,          O, 0, "") \
    F(T, u32,     permille,        O, 0, "progress") \
    F(T, text,    note,            O, 0, "progress in words") \
    F(T, u64,     payload_bytes,   O, 0, "") \
    F(T, u64,     result_bytes,    O, 0, "") \
    F(T, flag,    cancelling,      O, 0, "a stop was asked for") \
    F(T, map,     labels,          O, 0, "")

#define PL_FIELDS_req_job_list(F, T) \
    PL_ROWS_filter(F, T) \
    F(T, text,  tenant, O, 0, "") \
    F(T, state, state,  O, 0, "") \
    F(T, outcome, outcome, O, 0, "") \
    F(T, u32,   limit,  O, 0, "0: the server's page") \
    F(T, text,  cursor, O, 0, "next of the page before")

#define PL_FIELDS_rep_job_list(F, T) \
    F(T, list, jobs, R, 0, "maps as of job.get") \
    F(T, text, next, O, 0, "cursor; absent: that was all")

#define PL_FIELDS_rep_job_explain(F, T) \
    F(T, uuid,  id,       R, 0, "") \
    F(T, state, state,    A, 0, "") \
    F(T, wait,  wait,     A, 0, "the reason") \
    F(T, text,  text,     A, 0, "one sentence for people") \
    F(T, text,  pool,     O, 0, "") \
    F(T, text,  lane,     O, 0, "") \
    F(T, u32,   position, O, 0, "in its lane, 1 is next") \
    F(T, i64,   eta_ms,   O, -1, "") \
    F(T, i64,   waited_ms, O, 0, "since it was submitted") \
    F(T, list,  needs,    O, 0, "maps {kind, needs, used, capacity, missing}") \
    F(T, uuid,  behind,   O, 0, "the job that stands before it")

/* An element of rep_job_explain.needs. */
#define PL_FIELDS_rep_need(F, T) \
    F(T, text, kind,     R, 0, "") \
    F(T, u64,  needs,    A, 0, "") \
    F(T, u64,  used,     A, 0, "") \
    F(T, u64,  capacity, A, 0, "") \
    F(T, u64,  missing,  A, 0, "")

#define PL_FIELDS_req_job_follow(F, T) \
    F(T, uuid, id,          R, 0, "the job") \
    F(T, u64,  from_offset, O, 0, "bytes of the stream to leave out") \
    F(T, u64,  credit,      O, 0, "bytes of chunks that may be sent before the next credit")

#define PL_FIELDS_rep_sub(F, T) \
    F(T, u64, sub, R, 0, "names the subscription in notifications")

#define PL_FIELDS_req_sub(F, T) \
    F(T, u64, sub, R, 0, "the subscription")

#define PL_FIELDS_note_chunk(F, T) \
    F(T, u64,   sub,    R, 0, "") \
    F(T, u64,   seq,    A, 0, "counts this subscription's notifications from 1") \
    F(T, u64,   offset, A, 0, "of the first byte in the stream") \
    F(T, bytes, data,   R, 0, "")

#define PL_FIELDS_note_progress(F, T) \
    F(T, u64,  sub,      R, 0, "") \
    F(T, u64,  seq,      A, 0, "") \
    F(T, u32,  permille, A, 0, "0 to 1000") \
    F(T, text, note,     O, 0, "")

/* level as syslog: 3 error, 4 warning, 6 info, 7 debug. text is what a program wrote: bytes. */
#define PL_FIELDS_note_log(F, T) \
    F(T, u64,   sub,   R, 0, "") \
    F(T, u64,   seq,   A, 0, "") \
    F(T, u32,   level, A, 6, "") \
    F(T, bytes, text,  R, 0, "")

/* The last notification of a followed job. */
#define PL_FIELDS_note_end(F, T) \
    F(T, u64, sub,     R, 0, "") \
    F(T, u64, seq,     A, 0, "") \
    F(T, map, outcome, R, 0, "as the reply of job.wait")

#define PL_FIELDS_note_credit(F, T) \
    F(T, u64, sub,   R, 0, "") \
    F(T, u64, bytes, R, 0, "more that may be sent; events count 1 each")

#define PL_FIELDS_req_mailbox_fetch(F, T) \
    F(T, text, tenant,   O, 0, "absent: one's own; others' only for administrators") \
    F(T, text, user,     O, 0, "absent: of jobs that named none") \
    F(T, text, session,  O, 0, "absent: of jobs that named none") \
    F(T, i64,  since_ms, O, 0, "finished then or later, wall clock") \
    F(T, u32,  limit,    O, 0, "0: 50") \
    F(T, text, cursor,   O, 0, "next of an earlier page; good across restarts") \
    F(T, flag, no_result, O, 0, "without the results' bytes")

#define PL_FIELDS_rep_mailbox_fetch(F, T) \
    F(T, list, messages, R, 0, "maps as the reply of job.wait, in the order of finish") \
    F(T, text, next,     O, 0, "cursor behind the last: for the next page, or for what comes later; absent: there is none yet") \
    F(T, flag, more,     O, 0, "there are more behind it now")

#define PL_FIELDS_req_mailbox_ack(F, T) \
    F(T, list, ids, R, 0, "jobs whose outcomes may be forgotten; those not there are passed over")

/* Which dead letters: pool, lane and type (a glob) as they were submitted with; others' only for
 * administrators. */
#define PL_FIELDS_req_dlq_list(F, T) \
    PL_ROWS_filter(F, T) \
    F(T, u32,  limit,  O, 0, "0: the server's page") \
    F(T, text, cursor, O, 0, "next of the page before")

#define PL_FIELDS_rep_dlq_list(F, T) \
    F(T, list, letters, R, 0, "maps as of dlq.show, without payload and log lines; oldest first") \
    F(T, text, next,    O, 0, "cursor; absent: that was all") \
    F(T, u64,  kept,    O, 0, "how many the pool, or all pools, keep; administrators only") \
    F(T, u64,  evicted_total, O, 0, "that went because they were too old or too many, in this epoch")

#define PL_FIELDS_req_dlq_show(F, T) \
    F(T, uuid, id,         R, 0, "the job") \
    F(T, flag, no_payload, O, 0, "without the payload's bytes")

/* Error, signal, reason, worker and log lines are of the last attempt. */
#define PL_FIELDS_rep_dlq_show(F, T) \
    F(T, uuid,    id,              R, 0, "the job") \
    F(T, outcome, outcome,         R, 0, "failed, crashed or timed_out") \
    PL_ROWS_place(F, T) \
    F(T, u32,     attempt,         A, 0, "attempts made") \
    F(T, text,    error,           O, 0, "why it did not succeed") \
    F(T, text,    reason,          O, 0, "one word") \
    F(T, i32,     exit_code,       O, -1, "of a program, when it exited") \
    F(T, i32,     signal,          O, 0, "that ended the program or worker") \
    PL_ROWS_worker(F, T) \
    F(T, u32,     uid,             O, 0, "of the owner") \
    PL_ROWS_key(F, T) \
    PL_ROWS_begin(F, T) \
    F(T, i64,     finished_at_ms,  A, 0, "") \
    F(T, u64,     payload_bytes,   O, 0, "") \
    F(T, bytes,   payload,         O, 0, "the job's input") \
    F(T, text,    content_type,    O, 0, "of the payload") \
    F(T, bytes,   log_tail,        O, 0, "last log lines: what a program wrote") \
    F(T, flag,    log_cut,         O, 0, "there were earlier lines")

/* One by id, or all that match, a page at a time. */
#define PL_FIELDS_req_dlq_change(F, T) \
    F(T, uuid, id,      O, 0, "one letter") \
    F(T, flag, all,     O, 0, "all that match, instead of an id") \
    PL_ROWS_filter(F, T) \
    F(T, u32,  limit,   O, 0, "at most so many; 0: the server's page") \
    F(T, text, cursor,  O, 0, "next of the call before") \
    F(T, flag, dry_run, O, 0, "count, change nothing")

#define PL_FIELDS_rep_dlq_change(F, T) \
    F(T, u32,  changed, A, 0, "letters that ran again, or were removed") \
    F(T, u32,  refused, O, 0, "dlq.retry: they stay") \
    F(T, i32,  code,    O, 0, "why the first was refused: a status") \
    F(T, text, error,   O, 0, "the same in words") \
    F(T, text, next,    O, 0, "cursor; absent: that was all, or it makes no sense to go on now")

#define PL_FIELDS_req_pool(F, T) \
    F(T, text, pool, O, 0, "absent: the only one, or all where that makes sense") \
    F(T, i64,  timeout_ms, O, -1, "drain: -1 for ever")

#define PL_FIELDS_rep_pool(F, T) \
    F(T, text, name,            R, 0, "") \
    F(T, text, state,           A, 0, "active, paused, draining, disabled") \
    F(T, list, units,           A, 0, "maps {kind, capacity, used, peak}") \
    PL_ROWS_counts(F, T) \
    F(T, u64,  held,            O, 0, "") \
    F(T, u64,  max_queue_depth, A, 0, "") \
    F(T, i64,  oldest_queued_ms, O, 0, "") \
    F(T, u64,  throughput_1m,   A, 0, "") \
    F(T, u64,  submitted_total, A, 0, "") \
    F(T, u64,  rejected_total,  A, 0, "") \
    F(T, u64,  retried_total,   A, 0, "") \
    F(T, u64,  finished_total,  A, 0, "") \
    F(T, u64,  failed_total,    A, 0, "all outcomes but succeeded") \
    F(T, text, default_lane,    O, 0, "") \
    F(T, text, queue_type,      O, 0, "") \
    F(T, list, lanes,           O, 0, "maps as of lane.list; pool.show only") \
    F(T, list, workers,         O, 0, "maps as of worker.list; pool.show only")

/* An element of rep_pool.units. */
#define PL_FIELDS_rep_units(F, T) \
    F(T, text, kind,     R, 0, "") \
    F(T, u64,  capacity, A, 0, "") \
    F(T, u64,  used,     A, 0, "") \
    F(T, u64,  peak,     A, 0, "")

#define PL_FIELDS_rep_pool_list(F, T) \
    F(T, list, pools, R, 0, "")

#define PL_FIELDS_req_pool_set(F, T) \
    F(T, text, pool,            R, 0, "") \
    F(T, cost, max_units,       O, 0, "kinds to change; a bare number for a one-bucket pool") \
    F(T, i64,  max_queue_depth, O, -1, "-1: leave") \
    F(T, i64,  default_timeout_ms, O, -1, "-1: leave; 0: none")

#define PL_FIELDS_req_lane(F, T) \
    F(T, text, pool,            O, 0, "") \
    F(T, text, lane,            O, 0, "absent: all of the pool (lane.list only)") \
    F(T, i64,  min_concurrency, O, -1, "lane.set; -1: leave") \
    F(T, i64,  max_concurrency, O, -1, "lane.set; -1: leave; 0: paused") \
    F(T, i64,  priority,        O, -1, "lane.set; -1: leave") \
    F(T, i64,  timeout_ms,      O, -1, "lane.set; -1: leave; 0: none") \
    F(T, text, policy,          O, 0, "lane.set: priority, fifo")

#define PL_FIELDS_rep_lane(F, T) \
    F(T, text, pool,            A, 0, "") \
    F(T, text, name,            R, 0, "") \
    F(T, text, state,           A, 0, "active, paused") \
    F(T, text, policy,          A, 0, "") \
    F(T, u32,  priority,        A, 0, "") \
    F(T, u32,  min_concurrency, A, 0, "") \
    F(T, u32,  max_concurrency, A, 0, "") \
    F(T, i64,  timeout_ms,      O, 0, "") \
    PL_ROWS_counts(F, T) \
    F(T, u64,  finished_total,  A, 0, "")

#define PL_FIELDS_rep_lane_list(F, T) \
    F(T, list, lanes, R, 0, "")

#define PL_FIELDS_req_worker(F, T) \
    F(T, text, pool,     O, 0, "") \
    F(T, text, group,    O, 0, "") \
    F(T, text, worker,   O, 0, "one by name") \
    F(T, i64,  replicas, O, -1, "worker.scale") \
    F(T, flag, force,    O, 0, "worker.restart: do not let the running job finish")

#define PL_FIELDS_rep_worker(F, T) \
    F(T, text, name,      R, 0, "POOL/GROUP/N") \
    F(T, text, pool,      A, 0, "") \
    F(T, text, group,     A, 0, "") \
    F(T, text, kind,      O, 0, "cpu, gpu") \
    F(T, text, state,     A, 0, "starting, idle, busy, stopping, backoff, failed") \
    F(T, u32,  pid,       A, 0, "0: no process") \
    F(T, uuid, job,       O, 0, "the first, when it runs some") \
    F(T, u32,  jobs,      A, 0, "running in it now") \
    F(T, u32,  concurrency, A, 0, "") \
    F(T, u32,  restarts,  A, 0, "") \
    F(T, u64,  done_total, A, 0, "jobs it has finished") \
    F(T, u64,  rss_bytes, O, 0, "") \
    F(T, i64,  started_at_ms, O, 0, "") \
    F(T, text, plugin,    O, 0, "") \
    F(T, text, error,     O, 0, "why it is in backoff or failed")

#define PL_FIELDS_rep_worker_list(F, T) \
    F(T, list, workers, R, 0, "")

#define PL_FIELDS_req_event_subscribe(F, T) \
    F(T, list, keys,      O, 0, "globs of event keys; absent: all") \
    F(T, text, pool,      O, 0, "") \
    F(T, u64,  after_seq, O, 0, "go on behind this event; 0: from now") \
    F(T, u64,  credit,    O, 0, "events that may be sent before the next credit")

#define PL_FIELDS_note_event(F, T) \
    F(T, u64,     sub,     R, 0, "") \
    F(T, u64,     seq,     R, 0, "number of the event in this epoch") \
    F(T, text,    key,     R, 0, "queue.command.submitted ...") \
    F(T, i64,     time_ms, A, 0, "wall clock") \
    F(T, uuid,    id,      O, 0, "job") \
    F(T, text,    pool,    O, 0, "") \
    F(T, text,    lane,    O, 0, "") \
    F(T, text,    type,    O, 0, "") \
    F(T, u32,     attempt, O, 0, "") \
    F(T, text,    worker,  O, 0, "") \
    F(T, u32,     pid,     O, 0, "") \
    F(T, outcome, outcome, O, 0, "") \
    F(T, text,    error,   O, 0, "") \
    F(T, text,    reason,  O, 0, "") \
    F(T, text,    tenant,  O, 0, "") \
    F(T, i64,     value,   O, 0, "what the key counts: permille, depth, exit status")

#define PL_FIELDS_note_lagged(F, T) \
    F(T, u64, sub,    R, 0, "") \
    F(T, u64, seq,    A, 0, "the next event that will be sent") \
    F(T, u64, missed, R, 0, "events that were skipped")

/* mode: graceful (default: running jobs are asked to stop), drain (they finish), now. */
#define PL_FIELDS_req_instance_stop(F, T) \
    F(T, text, mode,       O, 0, "graceful, drain, now") \
    F(T, i64,  timeout_ms, O, -1, "-1: the configured one")

#define PL_FIELDS_rep_instance_status(F, T) \
    F(T, text, instance,   R, 0, "") \
    F(T, text, version,    A, 0, "") \
    F(T, u32,  pid,        A, 0, "of the supervisor") \
    F(T, u32,  guard_pid,  A, 0, "") \
    F(T, u64,  epoch,      A, 0, "") \
    F(T, text, state,      A, 0, "starting, serving, draining, stopping") \
    F(T, i64,  uptime_ms,  A, 0, "of this supervisor") \
    F(T, i64,  started_at_ms, O, 0, "") \
    F(T, text, config,     O, 0, "path of the file") \
    F(T, text, loop,       O, 0, "io_uring, epoll") \
    F(T, u32,  clients,    A, 0, "connections") \
    F(T, u64,  queued,     A, 0, "") \
    F(T, u64,  running,    A, 0, "") \
    F(T, u32,  workers,    A, 0, "processes") \
    F(T, list, pools,      O, 0, "maps as of pool.list")

/* errors: maps {path, line, col, message, hint}; when not empty, nothing was changed. */
#define PL_FIELDS_rep_instance_reload(F, T) \
    F(T, flag, changed, A, 0, "") \
    F(T, list, notes,   O, 0, "texts: what changed, what needs a restart")

/* part: supervisor (answered when it begins to hand over; instance.versions of the one that serves
 * then tells how it went), store, guard (answered when it is done). Programs are paths. */
#define PL_FIELDS_req_instance_upgrade(F, T) \
    F(T, text, part,       R, 0, "supervisor, store, guard") \
    F(T, text, program,    O, 0, "path of the new program; else where such programs are") \
    F(T, text, libexec,    O, 0, "folder in which programs are looked for from then on") \
    F(T, i64,  timeout_ms, O, -1, "to be healthy in, else the old one comes back; -1: 10000")

#define PL_FIELDS_rep_instance_versions(F, T) \
    F(T, text, version,    R, 0, "of the supervisor") \
    F(T, text, guard_version, A, 0, "") \
    F(T, text, formats,    A, 0, "layouts in shared memory and their versions: name=version …") \
    F(T, u64,  epoch,      A, 0, "") \
    F(T, u32,  pid,        A, 0, "of the supervisor") \
    F(T, u32,  guard_pid,  A, 0, "") \
    F(T, u32,  store_pid,  A, 0, "0: none") \
    F(T, text, config,     A, 0, "path of the file") \
    F(T, text, supervisor_program, O, 0, "paths of what would be started now") \
    F(T, text, guard_program,  O, 0, "") \
    F(T, text, store_program,  O, 0, "") \
    F(T, text, worker_program, O, 0, "") \
    F(T, u32,  upgrade,    A, 0, "counts the upgrades that this guard was asked for") \
    F(T, text, upgrade_part,    O, 0, "of the last one: supervisor, guard") \
    F(T, text, upgrade_outcome, O, 0, "running, done, refused, rolled_back") \
    F(T, text, upgrade_why,     O, 0, "refused, rolled_back: a sentence")

#define PL_FIELDS_rep_describe(F, T) \
    F(T, u32,  proto,   R, 0, "") \
    F(T, text, version, A, 0, "") \
    F(T, list, methods, R, 0, "maps {name, admin, params, result}; fields are [name, kind, flags, doc]") \
    F(T, list, notifications, A, 0, "maps {name, fields}") \
    F(T, list, status,  A, 0, "lists [code, name, text]")

/* What is written for every job: each of them has an encoder of its own, made from its table. */
#define PL_MESSAGES_OF_JOBS(M) M(req_job_submit) M(rep_ticket) M(rep_outcome)

#define PL_MESSAGES(M) PL_MESSAGES_OF_JOBS(M) PL_MESSAGES_OTHER(M)
#define PL_MESSAGES_OTHER(M) \
    M(req_hello) M(rep_limits) M(rep_hello) M(req_none) M(rep_ok) \
    M(req_job_submit_many) M(rep_job_submit_many) \
    M(req_job_wait) M(req_job_id) M(req_job_cancel) M(rep_job_cancel) \
    M(rep_job) M(req_job_list) M(rep_job_list) M(rep_job_explain) M(rep_need) \
    M(req_job_follow) M(rep_sub) M(req_sub) \
    M(note_chunk) M(note_progress) M(note_log) M(note_end) M(note_credit) \
    M(req_mailbox_fetch) M(rep_mailbox_fetch) M(req_mailbox_ack) \
    M(req_dlq_list) M(rep_dlq_list) M(req_dlq_show) M(rep_dlq_show) \
    M(req_dlq_change) M(rep_dlq_change) \
    M(req_pool) M(rep_pool) M(rep_units) M(rep_pool_list) M(req_pool_set) \
    M(req_lane) M(rep_lane) M(rep_lane_list) \
    M(req_worker) M(rep_worker) M(rep_worker_list) \
    M(req_event_subscribe) M(note_event) M(note_lagged) \
    M(req_instance_stop) M(rep_instance_status) M(rep_instance_reload) \
    M(req_instance_upgrade) M(rep_instance_versions) M(rep_describe)

/* X(id, wire name, params, result, who). who: A administrators, E everybody (own jobs) */
#define PL_METHODS(X) \
    X(HELLO,             "hello",             req_hello,           rep_hello,           E) \
    X(JOB_SUBMIT,        "job.submit",        req_job_submit,      rep_ticket,          E) \
    X(JOB_SUBMIT_MANY,   "job.submit_many",   req_job_submit_many, rep_job_submit_many, E) \
    X(JOB_WAIT,          "job.wait",          req_job_wait,        rep_outcome,         E) \
    X(JOB_RUN,           "job.run",           req_job_submit,      rep_outcome,         E) \
    X(JOB_RESULT,        "job.result",        req_job_id,          rep_outcome,         E) \
    X(JOB_GET,           "job.get",           req_job_id,          rep_job,             E) \
    X(JOB_LIST,          "job.list",          req_job_list,        rep_job_list,        E) \
    X(JOB_CANCEL,        "job.cancel",        req_job_cancel,      rep_job_cancel,      E) \
    X(JOB_EXPLAIN,       "job.explain",       req_job_id,          rep_job_explain,     E) \
    X(JOB_HOLD,          "job.hold",          req_job_id,          rep_job_cancel,      E) \
    X(JOB_RELEASE,       "job.release",       req_job_id,          rep_job_cancel,      E) \
    X(JOB_FOLLOW,        "job.follow",        req_job_follow,      rep_sub,             E) \
    X(JOB_UNFOLLOW,      "job.unfollow",      req_sub,             rep_ok,              E) \
    X(MAILBOX_FETCH,     "mailbox.fetch",     req_mailbox_fetch,   rep_mailbox_fetch,   E) \
    X(MAILBOX_ACK,       "mailbox.ack",       req_mailbox_ack,     rep_ok,              E) \
    X(DLQ_LIST,          "dlq.ls",            req_dlq_list,        rep_dlq_list,        E) \
    X(DLQ_SHOW,          "dlq.show",          req_dlq_show,        rep_dlq_show,        E) \
    X(DLQ_RETRY,         "dlq.retry",         req_dlq_change,      rep_dlq_change,      E) \
    X(DLQ_REMOVE,        "dlq.rm",            req_dlq_change,      rep_dlq_change,      E) \
    X(POOL_LIST,         "pool.list",         req_none,            rep_pool_list,       E) \
    X(POOL_SHOW,         "pool.show",         req_pool,            rep_pool,            E) \
    X(POOL_PAUSE,        "pool.pause",        req_pool,            rep_ok,              A) \
    X(POOL_RESUME,       "pool.resume",       req_pool,            rep_ok,              A) \
    X(POOL_DRAIN,        "pool.drain",        req_pool,            rep_ok,              A) \
    X(POOL_SET,          "pool.set",          req_pool_set,        rep_pool,            A) \
    X(LANE_LIST,         "lane.list",         req_lane,            rep_lane_list,       E) \
    X(LANE_SET,          "lane.set",          req_lane,            rep_lane,            A) \
    X(LANE_PAUSE,        "lane.pause",        req_lane,            rep_ok,              A) \
    X(LANE_RESUME,       "lane.resume",       req_lane,            rep_ok,              A) \
    X(WORKER_LIST,       "worker.list",       req_worker,          rep_worker_list,     E) \
    X(WORKER_RESTART,    "worker.restart",    req_worker,          rep_ok,              A) \
    X(WORKER_SCALE,      "worker.scale",      req_worker,          rep_ok,              A) \
    X(EVENT_SUBSCRIBE,   "event.subscribe",   req_event_subscribe, rep_sub,             E) \
    X(EVENT_UNSUBSCRIBE, "event.unsubscribe", req_sub,             rep_ok,              E) \
    X(INSTANCE_STATUS,   "instance.status",   req_none,            rep_instance_status, E) \
    X(INSTANCE_STOP,     "instance.stop",     req_instance_stop,   rep_ok,              A) \
    X(INSTANCE_DRAIN,    "instance.drain",    req_instance_stop,   rep_ok,              A) \
    X(INSTANCE_RELOAD,   "instance.reload",   req_none,            rep_instance_reload, A) \
    X(INSTANCE_UPGRADE,  "instance.upgrade",  req_instance_upgrade, rep_ok,             A) \
    X(INSTANCE_VERSIONS, "instance.versions", req_none,            rep_instance_versions, E) \
    X(API_DESCRIBE,      "api.describe",      req_none,            rep_describe,        E)

/* X(id, wire name, fields, direction). S: the server sends it, C: the client does. */
#define PL_NOTES(X) \
    X(CHUNK,    "chunk",    note_chunk,    S) \
    X(PROGRESS, "progress", note_progress, S) \
    X(LOG,      "log",      note_log,      S) \
    X(END,      "end",      note_end,      S) \
    X(EVENT,    "event",    note_event,    S) \
    X(LAGGED,   "lagged",   note_lagged,   S) \
    X(CREDIT,   "credit",   note_credit,   C)

/* clang-format on */

#endif
