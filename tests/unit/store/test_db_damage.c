/*
 * Damaged database files. One trial is one damage to a copy of a good file, looked at by two
 * children, because LMDB may die of it:
 *
 * - check and salvage, which must not die: check finds everything that changes a row, salvage
 * brings back every small row whose page is untouched, and nothing that was never there;
 * - the store as it starts (open, all queries): it may refuse, notice or die, but what it shows
 * must be what was written, and live jobs are never fewer without its being known.
 *
 * Seeds are printed; PL_TEST_SEED=N runs one, PL_TEST_LONG=1 ten times as many.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/prng.h"
#include "store/check.h"
#include "store/pages.h"
#include "store/rows.h"
#include "tests/unit/store/history.h"

#define TRIALS 60

enum damage {
    FLIP,
    ZERO_PAGE,
    GARBAGE,
    CUT,
    SWAP,
    OLD_PAGE, /* a write that never came to the disk */
    META_GONE,
    ALL_ZERO,
    MISSING,
    EMPTY,
    FOREIGN,
    DAMAGES,
};

static const char *const damage_name[DAMAGES] = {
    [FLIP] = "flip",      [ZERO_PAGE] = "zero page", [GARBAGE] = "garbage",
    [CUT] = "cut",        [SWAP] = "swap",           [OLD_PAGE] = "old page",
    [META_GONE] = "meta", [ALL_ZERO] = "all zero",   [MISSING] = "missing",
    [EMPTY] = "empty",    [FOREIGN] = "foreign",
};

/* How the store took it. */
enum taken {
    HARMLESS,
    REFUSED,
    NOTICED,
    DIED,
    MISSED, /* an outcome or dead letter was not found, or an old one was, and nobody knows why */
    TAKENS,
};

struct place {
    uint64_t lsn;
    uint64_t page;
    uint8_t table;
};

static struct history h;
static struct history older; /* of the commit before last: only its jobs and what it applied */
static struct pl_identity identity;
static uint8_t *good, *old; /* the file, and as it was before the last commit */
static size_t good_bytes, old_bytes;
static struct place *places;
static size_t place_count, place_room;
static char folder[64], db_path[80], new_path[80], data_path[96];
static uint64_t seed;

/* The good one */

static void
see_place(void *user, const char *table, struct pl_str key, struct pl_str value, uint64_t page)
{
    (void)user;
    struct pl_row_record record;
    bool is_job = strcmp(table, "job") == 0;
    if (!is_job && strcmp(table, "res") != 0)
        return;
    memcpy(&record, value.data + PL_ROW_CRC_BYTES, sizeof(record));
    if (record.inline_bytes < record.body_bytes)
        return; /* its body lies elsewhere */
    if (place_count == place_room) {
        place_room = place_room ? place_room * 2 : 256;
        places = reallocarray(places, place_room, sizeof(*places));
        ck_assert_ptr_nonnull(places);
    }
    places[place_count++] =
        (struct place){pl_row_get_be64(key.data), page, is_job ? PL_DB_JOB : PL_DB_RES};
}

static void
see_bad(void *user, const char *table, uint64_t page, const char *what)
{
    (void)user;
    ck_abort_msg("%s page %lu %s", table ? table : "main", page, what);
}

static void
find_places(void)
{
    struct pl_pages *pages;
    struct pl_pages_visitor visitor = {.row = see_place, .bad = see_bad};
    ck_assert_int_eq(pl_pages_open(db_path, NULL, &pages), 0);
    ck_assert_int_eq(pl_pages_walk(pages, &visitor), 0);
    ck_assert_uint_eq(pl_pages_loose_count(pages), 0);
    pl_pages_close(pages);
}

static uint8_t *
read_file(size_t *ret_bytes)
{
    struct stat st;
    int fd = open(data_path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    *ret_bytes = (size_t)st.st_size;
    return bytes;
}

static void
remember(void)
{
    older = h;
    older.job = malloc(h.job_count * sizeof(*h.job));
    ck_assert_ptr_nonnull(older.job);
    memcpy(older.job, h.job, h.job_count * sizeof(*h.job));
    old = read_file(&old_bytes);
}

static void
build(const struct pl_identity *as, struct history *history, int commits)
{
    struct pl_identity fresh = *as;
    struct pl_db_config config = {.map_bytes = 1 << 24};
    struct pl_fold_config limits = {.results = {.count_max = 150}};
    struct pl_db *db;
    struct pl_fold *fold;
    fresh.initialised = false;
    ck_assert_int_eq(pl_db_open(db_path, &fresh, &config, NULL, &db), 0);
    ck_assert_int_eq(pl_fold_new(db, &limits, &fold), 0);
    for (int i = 0; i < commits; i++) {
        for (int n = 0; n < 120; n++)
            history_make(history);
        history_apply(history, history->record_count);
        history_fold(history, fold, db, history->record_count);
        history_retain(history, &limits);
        if (history == &h && i == commits - 2)
            remember();
    }
    older.bytes = h.bytes;
    older.record = h.record;
    pl_fold_free(fold);
    pl_db_close(db);
}

static void
set_up(void)
{
    history_folder_make(folder);
    snprintf(db_path, sizeof(db_path), "%s/db", folder);
    snprintf(new_path, sizeof(new_path), "%s/new", folder);
    snprintf(data_path, sizeof(data_path), "%s/data.mdb", db_path);
    history_init(&h, seed);
    identity = (struct pl_identity){
        .uuid = {4, 5, 6}, .seed = (uint32_t)seed * 77, .format = 1, .initialised = true};
    build(&identity, &h, 6);
    good = read_file(&good_bytes);
    if (old_bytes > good_bytes)
        old_bytes = good_bytes;
    place_count = 0;
    find_places();
}

static void
tear_down(void)
{
    history_folder_remove(folder);
    history_deinit(&h);
    free(older.job);
    free(good);
    free(old);
    free(places);
    places = NULL;
    place_room = 0;
}

/* Damage */

static void
write_file(const uint8_t *bytes, size_t count)
{
    int fd = open(data_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, count), (ssize_t)count);
    close(fd);
}

static void
foreign(uint64_t *rng)
{
    struct pl_identity other = identity;
    struct history its;
    other.uuid[0] ^= 1;
    other.seed += 1;
    unlink(data_path);
    history_init(&its, pl_prng_next(rng));
    build(&other, &its, 1);
    history_deinit(&its);
}

static void
garbage(uint8_t *at, size_t bytes, uint64_t *rng)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)pl_prng_next(rng);
}

/* Return: the damaged file, as many bytes as @ret_bytes. */
static uint8_t *
apply_damage(enum damage kind, uint64_t *rng, size_t *ret_bytes)
{
    uint8_t *bytes = malloc(good_bytes);
    ck_assert_ptr_nonnull(bytes);
    memcpy(bytes, good, good_bytes);
    *ret_bytes = good_bytes;
    uint64_t pages = good_bytes / 4096;
    uint8_t *page = bytes + 4096 * pl_prng_below(rng, pages);
    uint8_t *other = bytes + 4096 * pl_prng_below(rng, pages);
    uint8_t saved[4096];
    switch (kind) {
    case FLIP:
        bytes[pl_prng_below(rng, good_bytes)] ^= (uint8_t)(1 << pl_prng_below(rng, 8));
        break;
    case ZERO_PAGE:
        memset(page, 0, 4096);
        break;
    case GARBAGE:
        garbage(page + 512 * pl_prng_below(rng, 8), 512, rng);
        break;
    case CUT:
        *ret_bytes = pl_prng_below(rng, good_bytes);
        break;
    case SWAP:
        memcpy(saved, page, 4096);
        memcpy(page, other, 4096);
        memcpy(other, saved, 4096);
        break;
    case OLD_PAGE:
        page = bytes + 4096 * (2 + pl_prng_below(rng, old_bytes / 4096 - 2));
        memcpy(page, old + (page - bytes), 4096);
        break;
    case META_GONE:
        memset(bytes + 4096 * pl_prng_below(rng, 2), 0, 4096);
        if (pl_prng_below(rng, 2))
            memset(bytes, 0, 8192);
        break;
    case ALL_ZERO:
        memset(bytes, 0, good_bytes);
        break;
    case EMPTY:
        *ret_bytes = 0;
        break;
    case MISSING:
    case FOREIGN:
    case DAMAGES:
        break;
    }
    write_file(bytes, *ret_bytes);
    if (kind == MISSING)
        unlink(data_path);
    if (kind == FOREIGN)
        foreign(rng);
    return bytes;
}

/* First child: check and salvage */

static void
require_untouched(struct pl_db *db, const uint8_t *bad, size_t bad_bytes)
{
    struct pl_query *q;
    ck_assert_int_eq(pl_query_new(db, &q), 0);
    for (size_t i = 0; i < place_count; i++) {
        size_t at = (size_t)places[i].page * 4096;
        if (at + 4096 > bad_bytes || memcmp(bad + at, good + at, 4096) != 0)
            continue;
        struct pl_query_body body;
        int r = places[i].table == PL_DB_JOB
                    ? pl_query_submit(q, places[i].lsn, 0, NULL, 0, &body)
                    : pl_query_finish(q, places[i].lsn, false, 0, NULL, 0, &body);
        if (r != 0)
            ck_abort_msg("%s %lu on page %lu is whole and was not salvaged",
                         pl_db_table_name(places[i].table), places[i].lsn, places[i].page);
    }
    pl_query_free(q);
}

/* Without the newer meta page the state before it is all there is: the log tells the rest. */
static bool
is_older(struct pl_db *db, const struct pl_salvage_report *saved)
{
    struct pl_log_position position;
    struct pl_db_counters counters;
    uint32_t epoch;
    pl_db_get_state(db, &position, &epoch, &counters);
    return saved->may_be_older && saved->has_position && position.lsn == older.applied_lsn;
}

static void
examine(enum damage kind, const uint8_t *bad, size_t bad_bytes)
{
    struct pl_check_report report = {.findings = 0};
    struct pl_salvage_report saved;
    struct pl_error err = {.text = ""};
    struct pl_db_config config = {.map_bytes = 1 << 24};
    struct history_seen seen = {0};
    struct pl_db *db;
    int r = pl_check(db_path, &identity, &err, &report);
    if (kind == MISSING || kind == EMPTY || (kind == CUT && bad_bytes == 0))
        REQUIRE(r == PL_DB_E_EMPTY);
    else if (kind == FOREIGN)
        REQUIRE(r == PL_DB_E_FOREIGN);
    else
        REQUIRE(r == 0 || r == PL_DB_E_DAMAGED || r == PL_DB_E_FOREIGN);
    REQUIRE(r == 0 || err.text[0] != '\0');
    struct pl_check_report first = report;
    uint64_t found = r == PL_DB_E_DAMAGED ? report.findings : 0;
    int s = pl_salvage(db_path, &identity, new_path, &err, &saved);
    if (kind == MISSING || kind == EMPTY) {
        REQUIRE(s == PL_DB_E_EMPTY);
        return;
    }
    if (s == PL_DB_E_EMPTY && bad_bytes == 0)
        return;
    REQUIRE(s == 0);
    int again = pl_check(new_path, &identity, &err, &report);
    ck_assert_msg(again == 0, "the salvaged one: %d, %s", again, err.text);
    REQUIRE(pl_db_open(new_path, &identity, &config, &err, &db) == 0);
    if (kind == FOREIGN) {
        REQUIRE(saved.jobs == 0 && saved.results == 0 && saved.dead == 0);
        pl_db_close(db);
        return;
    }
    if (getenv("PL_TEST_SEED")) {
        for (uint64_t i = 0; i < found && i < PL_CHECK_FINDINGS; i++)
            printf("    %s\n", first.first[i].text);
        printf("    salvaged: %lu jobs, %lu loose, %lu cut, stale %d\n", saved.jobs,
               saved.found_loose, saved.cut, saved.may_be_stale);
        fflush(stdout);
    }
    /* What a lost free list brings back may have ended since. */
    if (!saved.may_be_stale)
        history_compare(is_older(db, &saved) ? &older : &h, db, HISTORY_SALVAGED, &seen);
    /* The promise of check: if it finds nothing, nothing is changed. */
    if (r == 0)
        REQUIRE(seen.is_complete && saved.found_loose == 0 && saved.cut == 0);
    REQUIRE(saved.has_position || r != 0);
    if (!is_older(db, &saved))
        require_untouched(db, bad, bad_bytes);
    pl_db_close(db);
}

/* Second child: as the store starts */

static enum taken
serve(void)
{
    struct pl_db_config config = {.map_bytes = 1 << 24};
    struct pl_error err = {.text = ""};
    struct pl_db *db;
    struct history_seen seen;
    int r = pl_db_open(db_path, &identity, &config, &err, &db);
    if (r != 0) {
        REQUIRE(err.text[0] != '\0');
        return REFUSED;
    }
    history_compare(&h, db, HISTORY_DAMAGED, &seen);
    pl_db_close(db);
    if (seen.damaged > 0)
        return NOTICED;
    return seen.is_complete && seen.stale == 0 ? HARMLESS : MISSED;
}

/* Return: of the child; 128 + signal when it died of one. */
static int
in_child(bool is_store, enum damage kind, const uint8_t *bad, size_t bad_bytes)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        alarm(60);
        if (is_store) { /* LMDB's last words are of no interest, and a sanitizer's neither */
            int null = open("/dev/null", O_WRONLY);
            dup2(null, 2);
            signal(SIGSEGV, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            signal(SIGABRT, SIG_DFL);
            _exit(100 + (int)serve());
        }
        examine(kind, bad, bad_bytes);
        _exit(100);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static enum damage
choose(uint64_t *rng)
{
    uint64_t n = pl_prng_below(rng, 100);
    return n < 50   ? FLIP
           : n < 62 ? ZERO_PAGE
           : n < 74 ? GARBAGE
           : n < 82 ? CUT
           : n < 88 ? SWAP
           : n < 93 ? OLD_PAGE
           : n < 95 ? META_GONE
                    : (enum damage)(ALL_ZERO + pl_prng_below(rng, 4));
}

static void
trial(uint64_t number, unsigned count[DAMAGES][TAKENS])
{
    uint64_t rng = seed * 1000003 + number;
    enum damage kind = choose(&rng);
    size_t bad_bytes;
    uint8_t *bad = apply_damage(kind, &rng, &bad_bytes);
    if (getenv("PL_TEST_SEED"))
        printf("  trial %lu: %s\n", number, damage_name[kind]);
    fflush(stdout);
    int r = in_child(false, kind, bad, bad_bytes);
    ck_assert_msg(r == 100, "seed %lu trial %lu (%s): check or salvage: %d", seed, number,
                  damage_name[kind], r);
    history_folder_remove(new_path);
    r = in_child(true, kind, bad, bad_bytes);
    bool died = r > 128;
    ck_assert_msg(died || (r >= 100 && r < 100 + TAKENS), "seed %lu trial %lu (%s): the store: %d",
                  seed, number, damage_name[kind], r);
    ck_assert_msg(kind < META_GONE || r == 100 + REFUSED,
                  "seed %lu trial %lu (%s): taken for a good one", seed, number, damage_name[kind]);
    count[kind][died ? DIED : r - 100]++;
    free(bad);
}

START_TEST(damage_is_found_and_the_rest_is_saved)
{
    const char *one = getenv("PL_TEST_SEED");
    unsigned count[DAMAGES][TAKENS] = {{0}};
    seed = one ? strtoull(one, NULL, 0) : (uint64_t)_i + 1;
    printf("damage: PL_TEST_SEED=%lu, %d trials\n", seed, TRIALS);
    fflush(stdout);
    set_up();
    for (uint64_t i = 0; i < TRIALS; i++)
        trial(i, count);
    tear_down();
    for (unsigned k = 0; k < DAMAGES; k++)
        printf("  %-9s harmless %u, refused %u, noticed %u, died %u, missed by a query %u\n",
               damage_name[k], count[k][HARMLESS], count[k][REFUSED], count[k][NOTICED],
               count[k][DIED], count[k][MISSED]);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("db_damage");
    TCase *tcase = tcase_create("damage");
    const char *is_long = getenv("PL_TEST_LONG");
    tcase_set_timeout(tcase, 900);
    tcase_add_loop_test(tcase, damage_is_found_and_the_rest_is_saved, 0,
                        getenv("PL_TEST_SEED")         ? 1
                        : is_long && is_long[0] == '1' ? 40
                                                       : 4);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
