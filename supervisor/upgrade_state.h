/* What the supervisor knows of upgrades; see upgrade.h. */
#ifndef PL_SUPERVISOR_UPGRADE_STATE_H
#define PL_SUPERVISOR_UPGRADE_STATE_H

#include "base/types.h"
#include "supervisor/guard_proto.h"
#include "supervisor/session.h"

enum pl_upgrade_part {
    PL_UPGRADE_NOTHING,
    PL_UPGRADE_SUPERVISOR,
    PL_UPGRADE_STORE,
    PL_UPGRADE_GUARD,
};

struct pl_upgrade {
    enum pl_upgrade_part part; /* under way, asked for through us */
    pl_session_ref session;    /* who asked */
    uint32_t request;
    pl_time timeout;
    pl_time deadline; /* monotonic; 0: none */
    bool handing_over;
    bool going_back;  /* the new store failed, the old one is started */
    int old_store_fd; /* its program, O_PATH; -1: none */
    char why[PL_GUARD_WHY_BYTES];
    struct pl_guard_upgrade_is last; /* what the guard told last */
    uint32_t serial; /* of what it had told last when we asked: an answer has a later one */
    char guard_version[PL_GUARD_VERSION_BYTES];
};

#endif
