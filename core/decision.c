/*
 * The decision log: a bounded ring of inputs. Texts are kept as interned ids, so an event whose
 * texts find no place in the string table is recorded as a plain TICK (it was refused as well).
 */
#include "core/inside.h"

static struct pl_decision *
decision_at(const struct pl_core *core, uint64_t number)
{
    struct pl_decision *first = core->section[PL_SEC_DECISION];
    return &first[number % core->limits.decision_log_events];
}

static bool
is_config(uint32_t kind)
{
    return kind >= PL_EV_CONFIG_POOL && kind <= PL_EV_REMOVE_GROUP;
}

void
pl_decision_record(struct pl_core *core, const struct pl_event *ev)
{
    struct pl_decision *d;
    if (is_config(ev->kind))
        return;
    d = decision_at(core, core->header->decision_end);
    pl_zero(d, sizeof(*d));
    d->kind = ev->kind;
    d->now_mono = ev->now_mono;
    d->now_boot = ev->now_boot;
    core->header->decision_end++;
    if (ev->kind != PL_EV_SUBMIT && ev->kind != PL_EV_RESTORE_JOB &&
        ev->kind != PL_EV_RESTORE_RUNNING) {
        _Static_assert(sizeof(ev->finished) <= sizeof(d->plain), "events fit");
        __builtin_memcpy(d->plain, &ev->finished, sizeof(ev->finished));
        return;
    }
    if (ev->kind == PL_EV_SUBMIT)
        d->restore.spec = *ev->submit;
    else
        d->restore = *ev->restore;
    if (d->restore.spec.type.len <= PL_TYPE_BYTES_MAX &&
        d->restore.spec.tenant.len <= PL_TYPE_BYTES_MAX) {
        d->type = pl_string_intern(core, d->restore.spec.type);
        d->tenant = pl_string_intern(core, d->restore.spec.tenant);
    } else {
        d->type = PL_INDEX_NONE;
    }
    if (d->type == PL_INDEX_NONE || d->tenant == PL_INDEX_NONE)
        d->kind = PL_EV_TICK;
    d->restore.spec.type = d->restore.spec.tenant = (struct pl_str){0};
}

uint32_t
pl_core_decision_count(const struct pl_core *core)
{
    uint64_t end = core->header->decision_end, most = core->limits.decision_log_events;
    return (uint32_t)(end < most ? end : most);
}

int
pl_core_decision_at(const struct pl_core *core, uint32_t n, struct pl_event *ret_event,
                    struct pl_restore *ret_restore)
{
    uint32_t count = pl_core_decision_count(core);
    if (n >= count)
        return PL_CORE_E_NONE;
    const struct pl_decision *d = decision_at(core, core->header->decision_end - count + n);
    struct pl_event ev = {.kind = d->kind, .now_mono = d->now_mono, .now_boot = d->now_boot};
    if (d->kind == PL_EV_SUBMIT || d->kind == PL_EV_RESTORE_JOB ||
        d->kind == PL_EV_RESTORE_RUNNING) {
        *ret_restore = d->restore;
        ret_restore->spec.type = pl_core_string(core, d->type);
        ret_restore->spec.tenant = pl_core_string(core, d->tenant);
        if (d->kind == PL_EV_SUBMIT)
            ev.submit = &ret_restore->spec;
        else
            ev.restore = ret_restore;
    } else {
        __builtin_memcpy(&ev.finished, d->plain, sizeof(ev.finished));
    }
    *ret_event = ev;
    return 0;
}
