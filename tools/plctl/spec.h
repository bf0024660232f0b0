/*
 * A job specification from options; shared by submit and run.
 */
#ifndef PL_TOOLS_PLCTL_SPEC_H
#define PL_TOOLS_PLCTL_SPEC_H

#include "tools/plctl/plctl.h"

#define PLCTL_COSTS_MAX  16
#define PLCTL_LABELS_MAX 64
#define PLCTL_META_MAX   64
#define PLCTL_AFTER_MAX  64

struct plctl_spec {
    struct pl_job_spec job;
    struct pl_units cost[PLCTL_COSTS_MAX];
    struct pl_pair label[PLCTL_LABELS_MAX];
    struct pl_pair meta[PLCTL_META_MAX];
    struct pl_id after[PLCTL_AFTER_MAX];
};

/* Fills all that JOB_OPTIONS say; connects only for --after. Return: 0 or an exit status. */
int plctl_spec_from(struct plctl *ctl, const struct pl_args *args, struct plctl_spec *ret_spec);

/* Return: 0 or an exit status (too many). */
int plctl_spec_add_meta(struct plctl_spec *spec, const char *key, struct pl_bytes value);

/* What was accepted, as asked for by --json, --id-only. */
void plctl_print_ticket(const struct plctl *ctl, const struct pl_ticket *ticket, bool id_only);

/* Follows to the end: chunks to stdout, log lines to stderr. Ctrl-C ends plctl with 130 and says
 * that the job goes on. Return: PL_OK, a status, or 1 with `broken`. */
struct plctl_follow {
    uint64_t from_offset;
    bool no_output; /* logs only */
    bool broken;    /* stdout is gone */
};
int plctl_follow_job(struct plctl *ctl, struct pl_id id, struct plctl_follow *follow,
                     struct pl_result **ret_result);

/* Says on stderr how it ended when it did not succeed. Return: exit status. */
int plctl_tell_outcome(const struct plctl *ctl, const struct pl_result *result);

/* Writes all of it to stdout. Return: false when nobody reads. */
bool plctl_write_out(const void *data, size_t len);

#endif
