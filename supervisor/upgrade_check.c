#include <stdio.h>

#include "shm/channel.h"
#include "supervisor/configure.h"
#include "supervisor/upgrade.h"
#include "supervisor/version.h"
#include "supervisor/worker.h"

const struct pl_format pl_upgrade_formats[] = {
    {"guard", PL_GUARD_PROTO_VERSION},
    {"memlog", PL_MEMLOG_VERSION},
    {"record", PL_RECORD_VERSION},
    {"channel", PL_CHANNEL_LAYOUT_VERSION},
    {"memo", PL_WORKER_MEMO_VERSION},
    {"storelink", PL_STORELINK_LAYOUT_VERSION},
    {NULL, 0},
};

static int
check_config(struct pl_supervisor *sup, struct pl_error *err)
{
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    int rc = pl_configure_load(sup, &sup->config, &diags);
    if (diags.count > 0)
        pl_diagnostics_print(&diags, stderr);
    if (rc < 0 && diags.count > 0)
        pl_error_set(err, "it does not take the configuration %.100s: %.200s", sup->config_path,
                     diags.items[0].message);
    else if (rc < 0)
        pl_error_set_errno(err, rc, "it cannot read the configuration %.100s", sup->config_path);
    pl_diagnostics_deinit(&diags);
    return rc;
}

int
pl_upgrade_check(struct pl_supervisor *sup, const char *formats)
{
    struct pl_error err = {.text = ""};
    int rc = pl_formats_check(pl_upgrade_formats, formats, &err);
    if (rc == 0)
        rc = check_config(sup, &err);
    return pl_formats_answer("pl-supervisor", PL_VERSION_TEXT, pl_upgrade_formats,
                             rc == 0 ? NULL : err.text);
}
