/*
 * Crash images of the durable log. A run appends, folds, fails, restarts; before any of its calls
 * to the disk an image may be made: a copy of the disk on which the power goes (or the process
 * alone) with every sector that was not flushed kept, dropped, torn or trashed. The image is
 * opened: all that was acknowledged must be there with its bytes, nothing else that contradicts
 * it. Then writing goes on there, stops again at a random call, also inside recovery, and so on.
 *
 *   log_images [--images N] [--seed S]
 *
 * Without --images: some 2,000, or 20,000 when PL_TEST_LONG is set. A failure prints the seed of
 * its run; --seed S repeats that run alone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/prng.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/log_model.h"
#include "util/clock.h"

#define RUN_STEPS 60u
#define DEPTH_MAX 4u

struct campaign {
    uint64_t images; /* opened and compared so far */
    uint64_t wanted;
    uint64_t runs;
    uint64_t crashes;
    uint64_t rewritten, torn, failures, faults;
    uint64_t by_loss[FAKE_LOSSES + 1];
};

struct run {
    struct campaign *campaign;
    struct fake_disk *disk;
    struct log_model model;
    uint64_t prng;
    uint32_t image_odds; /* one of so many calls */
    bool failed;
};

static void
complain(struct run *run, const struct log_model *model, const char *when)
{
    fprintf(stderr, "FAILED %s: %s\n  repeat with: log_images --seed %llu\n", when, model->why,
            (unsigned long long)run->model.seed);
    run->failed = true;
}

/* Power or process goes; the model's log is closed before. */
static void
crash(struct run *run, struct fake_disk *disk)
{
    uint64_t dice = pl_prng_below(&run->prng, FAKE_LOSSES + 1);
    run->campaign->by_loss[dice]++;
    run->campaign->crashes++;
    if (dice == FAKE_LOSSES) {
        fake_disk_drop_handles(disk); /* the process alone: what was written still reads back */
        disk->dead = disk->dies = disk->fail_for_ever = false;
        disk->fail_at = disk->failed = 0;
    } else
        fake_disk_crash(disk, (enum fake_loss)dice);
}

static bool
open_whole(struct run *run, struct log_model *model, const char *when)
{
    model->tell_acked = pl_prng_below(&run->prng, 2) == 0;
    if (model_open(model) != 0) {
        complain(run, model, when);
        return false;
    }
    run->campaign->images++;
    run->campaign->rewritten += model->report.rewritten_bytes > 0;
    run->campaign->torn += model->report.torn;
    return true;
}

/* A call or two fail, once or from then on; the process goes on or ends, the machine does not. */
static void
plan_fault(struct run *run, struct fake_disk *disk)
{
    disk->fail_at = 1 + pl_prng_below(&run->prng, 40);
    disk->fail_for_ever = pl_prng_below(&run->prng, 4) == 0;
    disk->fail_error = pl_prng_below(&run->prng, 3) == 0 ? -ENOSPC : -EIO;
    disk->fail_ops = pl_prng_below(&run->prng, 2) == 0
                         ? 1u << FAKE_OP_FLUSH
                         : 1u << FAKE_OP_WRITE | 1u << FAKE_OP_FLUSH | 1u << FAKE_OP_NAME;
}

/* Opens, goes on, and stops at a random call, which may be one of the opening; or calls fail and
 * the process ends over it. Return: false when something is not as promised. */
static bool
go_on_and_stop(struct run *run, struct fake_disk *disk, struct log_model *model)
{
    plan_fault(run, disk);
    disk->dies = pl_prng_below(&run->prng, 3) != 0;
    if (disk->dies) {
        disk->fail_ops = UINT32_MAX;
        disk->fail_at = 1 + pl_prng_below(&run->prng, 120);
    }
    int result = model_open(model);
    bool refused = result > 0; /* an opinion about what is on the disk: never right here */
    run->campaign->images += result == 0;
    if (result == 0)
        result = model_steps(model, 20);
    run->campaign->faults += disk->failed;
    bool faulty = disk->failed > 0;
    model_close(model);
    if (refused || result == -EBADMSG || (result != 0 && !faulty)) {
        complain(run, model, "while it went on");
        return false;
    }
    return true;
}

static void
make_image(struct run *run)
{
    struct log_model *model = malloc(sizeof(*model));
    struct fake_disk *disk = fake_disk_copy(run->disk, pl_prng_next(&run->prng));
    PL_ASSERT(model != NULL);
    model_copy(&run->model, &disk->disk, pl_prng_next(&run->prng), model);
    uint64_t depth = pl_prng_below(&run->prng, DEPTH_MAX);
    crash(run, disk);
    for (uint64_t i = 0; i < depth && !run->failed; i++) {
        if (go_on_and_stop(run, disk, model))
            crash(run, disk);
    }
    if (!run->failed && open_whole(run, model, "after the last crash")) {
        int result = model_steps(model, 5);
        if (result != 0 && result != -EBADMSG)
            snprintf(model->why, sizeof(model->why), "a step says %d", result);
        if (result != 0)
            complain(run, model, "going on after the last crash");
        model_close(model);
        if (!run->failed && fake_disk_open_handles(disk) != 0) {
            snprintf(model->why, sizeof(model->why), "handles are left open");
            complain(run, model, "at the end");
        }
    }
    fake_disk_free(disk);
    free(model);
}

static void
before_call(void *user, enum fake_op op)
{
    struct run *run = user;
    (void)op;
    if (!run->failed && pl_prng_below(&run->prng, run->image_odds) == 0)
        make_image(run);
}

/* Steps until enough; a failure ends the process, and the next one starts on what is there. */
static void
do_steps(struct run *run)
{
    struct fake_disk *disk = run->disk;
    struct log_model *model = &run->model;
    for (uint32_t i = 0; i < RUN_STEPS && !run->failed; i++) {
        if (model->log == NULL && !open_whole(run, model, "opening again"))
            return;
        if (pl_prng_below(&run->prng, 8) == 0)
            plan_fault(run, disk);
        int result = model_steps(model, 1);
        run->campaign->faults += disk->failed;
        if (result == -EBADMSG || (result != 0 && disk->failed == 0)) {
            if (result != -EBADMSG)
                snprintf(model->why, sizeof(model->why), "a step says %d without a fault", result);
            complain(run, model, "while it ran");
        }
        if (result != 0) {
            run->campaign->failures++;
            model_close(model);
            disk->fail_at = 0;
        }
        disk->failed = 0;
    }
}

static bool
do_run(struct campaign *campaign, uint64_t seed)
{
    struct run *run = calloc(1, sizeof(*run));
    PL_ASSERT(run != NULL);
    run->campaign = campaign;
    run->prng = seed ^ 0x1234567;
    run->disk = fake_disk_new(seed);
    run->disk->short_writes = pl_prng_below(&run->prng, 4) == 0;
    run->image_odds = 4 + (uint32_t)pl_prng_below(&run->prng, 40);
    model_init(&run->model, &run->disk->disk, seed);
    static const uint32_t large[] = {0, 4, 12, 40};
    static const uint32_t fold[] = {8, 15, 25, 40};
    run->model.large_percent = large[pl_prng_below(&run->prng, PL_ARRAY_LEN(large))];
    run->model.fold_percent = fold[pl_prng_below(&run->prng, PL_ARRAY_LEN(fold))];
    run->disk->hook = before_call;
    run->disk->hook_user = run;
    do_steps(run);
    model_close(&run->model);
    if (!run->failed && fake_disk_open_handles(run->disk) != 0) {
        snprintf(run->model.why, sizeof(run->model.why), "handles are left open");
        complain(run, &run->model, "at the end");
    }
    bool passed = !run->failed;
    fake_disk_free(run->disk);
    free(run);
    campaign->runs++;
    return passed;
}

int
main(int argc, char **argv)
{
    struct campaign campaign = {.wanted = getenv("PL_TEST_LONG") != NULL ? 20000 : 2000};
    uint64_t seed = 1;
    bool one = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--images") == 0)
            campaign.wanted = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[i + 1], NULL, 0);
            one = true;
        }
    }
    pl_time start = pl_clock_mono();
    bool passed = true;
    do {
        passed = do_run(&campaign, seed++);
    } while (passed && !one && campaign.images < campaign.wanted);
    static const char *const names[] = {"all lost", "none lost", "some",
                                        "pages",    "one lost",  "one kept",
                                        "torn",     "trashed",   "process only"};
    printf("%llu images opened and compared, %llu crashes, %llu runs (seeds up to %llu), %.1f s\n",
           (unsigned long long)campaign.images, (unsigned long long)campaign.crashes,
           (unsigned long long)campaign.runs, (unsigned long long)seed - 1,
           (double)(pl_clock_mono() - start) / 1e9);
    for (unsigned i = 0; i <= FAKE_LOSSES; i++)
        printf("  %-12s %llu\n", names[i], (unsigned long long)campaign.by_loss[i]);
    printf("  last batch written again %llu, torn tails %llu, calls failed %llu, restarts after it "
           "%llu\n",
           (unsigned long long)campaign.rewritten, (unsigned long long)campaign.torn,
           (unsigned long long)campaign.faults, (unsigned long long)campaign.failures);
    return passed ? 0 : 1;
}
