#include "supervisor/boot_mark.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "supervisor/supervisor.h"
#include "util/log.h"
#include "util/paths.h"

#define BOOT_DIGITS (2 * sizeof(((struct pl_supervisor *)0)->boot_id))

static void
format_boot(const struct pl_supervisor *sup, char text[BOOT_DIGITS + 1])
{
    for (size_t i = 0; i < sizeof(sup->boot_id); i++)
        snprintf(text + 2 * i, 3, "%02x", sup->boot_id[i]);
}

/* Return: 0 when there is none of this boot and this log. */
static uint64_t
read_mark(const struct pl_supervisor *sup, const char *path)
{
    char boot[BOOT_DIGITS + 1], text[BOOT_DIGITS + 1];
    uint32_t seed;
    uint64_t lsn;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    _Static_assert(BOOT_DIGITS == 32, "the format below");
    int fields = fscanf(file, "1 %32s %" SCNu32 " %" SCNu64, text, &seed, &lsn);
    fclose(file);
    format_boot(sup, boot);
    return fields == 3 && strcmp(text, boot) == 0 && seed == sup->store.seed ? lsn : 0;
}

/* Return: 0 or negative errno. */
static int
write_mark(const struct pl_supervisor *sup, const char *path, uint64_t lsn)
{
    char boot[BOOT_DIGITS + 1], fresh[PL_PATH_BYTES + 8];
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    FILE *file = fopen(fresh, "we");
    if (file == NULL)
        return -errno;
    format_boot(sup, boot);
    bool good = fprintf(file, "1 %s %" PRIu32 " %" PRIu64 "\n", boot, sup->store.seed, lsn) > 0;
    good = fclose(file) == 0 && good;
    return good && rename(fresh, path) == 0 ? 0 : -errno;
}

uint64_t
pl_boot_mark(const struct pl_supervisor *sup, uint64_t next_lsn)
{
    char path[PL_PATH_BYTES];
    if ((size_t)snprintf(path, sizeof(path), "%s/boot", sup->state_dir) >= sizeof(path))
        return next_lsn;
    uint64_t lsn = read_mark(sup, path);
    if (lsn != 0)
        return lsn;
    int rc = write_mark(sup, path, next_lsn);
    if (rc < 0)
        pl_log(PL_LOG_WARNING, "a start within this boot will go by the wall clock",
               PL_F_STR("path", path), PL_F_ERRNO("error", rc));
    return next_lsn;
}
