/*
 * STATE_DIR/orphans/JOB.ATTEMPT: how a job ended whose worker nobody adopted. Written whole and
 * synced by the worker, taken in and removed by the next supervisor.
 *
 * The head, then content type, message and result, without gaps. Integers in host order: the file
 * does not leave the machine; read it as what anybody may have written all the same.
 */
#ifndef PL_SHM_ORPHAN_FILE_H
#define PL_SHM_ORPHAN_FILE_H

#include <stdint.h>

#include "base/uuid.h"

#define PL_ORPHAN_FOLDER  "orphans"
#define PL_ORPHAN_MAGIC   0x3148505250524fu
#define PL_ORPHAN_VERSION 1u

struct pl_orphan_head {
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* CRC32C of everything behind this field */
    struct pl_uuid job;
    uint32_t attempt;
    uint32_t code;  /* enum pl_finish_code */
    uint32_t flags; /* PL_FINISHED_HAS_… */
    int32_t exit_code;
    uint32_t exit_signal;
    uint32_t pid; /* of the worker */
    uint32_t content_type_bytes;
    uint32_t message_bytes;
    uint64_t data_bytes;
    int64_t run_ns;
    int64_t started_ms; /* wall clock */
    char worker[192];   /* its name, ends with NUL */
};
_Static_assert(sizeof(struct pl_orphan_head) == 280, "file layout");

#endif
