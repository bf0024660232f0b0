/* STORE and LOCK: fresh, again, damaged at every bit, newer, lost, held. */
#include <stdio.h>
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "record/bytes.h"
#include "store/identity.h"
#include "tests/unit/store/history.h"

static char folder[64];
static int dir = -1;

static void
set_up(void)
{
    history_folder_make(folder);
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(dir, 0);
}

static void
tear_down(void)
{
    close(dir);
    history_folder_remove(folder);
}

static void
write_store(const void *bytes, size_t count)
{
    int fd = openat(dir, "STORE", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(write(fd, bytes, count), (ssize_t)count);
    close(fd);
}

static size_t
read_store(uint8_t bytes[128])
{
    int fd = openat(dir, "STORE", O_RDONLY);
    ssize_t n = read(fd, bytes, 128);
    ck_assert_int_gt(n, 0);
    close(fd);
    return (size_t)n;
}

START_TEST(it_stays_what_it_was)
{
    struct pl_identity a, b;
    struct pl_error err = {.text = ""};
    ck_assert_int_eq(pl_identity_read(dir, &err, &a), PL_IDENTITY_E_NONE);
    ck_assert_int_eq(pl_identity_open(dir, 12345, &err, &a), 0);
    ck_assert(!a.initialised);
    ck_assert_int_eq(a.created_ms, 12345);
    ck_assert_int_eq(pl_identity_open(dir, 99999, &err, &b), 0);
    ck_assert_mem_eq(a.uuid, b.uuid, 16);
    ck_assert_uint_eq(a.seed, b.seed);
    ck_assert_int_eq(b.created_ms, 12345);
    ck_assert_int_eq(pl_identity_set_initialised(dir, &err, &b), 0);
    ck_assert_int_eq(pl_identity_read(dir, &err, &a), 0);
    ck_assert(a.initialised && b.initialised);
    ck_assert_mem_eq(a.uuid, b.uuid, 16);
}
END_TEST

START_TEST(two_stores_differ)
{
    struct pl_identity a, b;
    ck_assert_int_eq(pl_identity_open(dir, 1, NULL, &a), 0);
    ck_assert_int_eq(unlinkat(dir, "STORE", 0), 0);
    ck_assert_int_eq(pl_identity_open(dir, 1, NULL, &b), 0);
    ck_assert_mem_ne(a.uuid, b.uuid, 16);
}
END_TEST

START_TEST(each_flipped_bit_is_seen)
{
    struct pl_identity identity;
    uint8_t bytes[128];
    ck_assert_int_eq(pl_identity_open(dir, 1, NULL, &identity), 0);
    size_t count = read_store(bytes);
    for (size_t bit = 0; bit < count * 8; bit++) {
        struct pl_error err = {.text = ""};
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_store(bytes, count);
        int r = pl_identity_open(dir, 2, &err, &identity);
        ck_assert(r == PL_IDENTITY_E_DAMAGED || r == PL_IDENTITY_E_NEWER);
        ck_assert(err.text[0] != '\0');
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < count; cut++) {
        write_store(bytes, cut);
        ck_assert_int_eq(pl_identity_open(dir, 2, NULL, &identity), PL_IDENTITY_E_DAMAGED);
    }
    bytes[count] = 0;
    write_store(bytes, count + 1);
    ck_assert_int_eq(pl_identity_open(dir, 2, NULL, &identity), PL_IDENTITY_E_DAMAGED);
    write_store(bytes, count);
    ck_assert_int_eq(pl_identity_open(dir, 2, NULL, &identity), 0);
}
END_TEST

START_TEST(a_newer_one_is_refused_by_name)
{
    struct pl_identity identity = {.format = PL_STORE_FORMAT + 1};
    struct pl_error err = {.text = ""};
    ck_assert_int_eq(pl_identity_write(dir, &err, &identity), 0);
    ck_assert_int_eq(pl_identity_open(dir, 2, &err, &identity), PL_IDENTITY_E_NEWER);
    char text[32];
    snprintf(text, sizeof(text), "format %u", PL_STORE_FORMAT + 1);
    ck_assert_ptr_nonnull(strstr(err.text, text));
}
END_TEST

START_TEST(data_without_store_is_not_fresh)
{
    static const char *const names[] = {"db", "log-0000000000000001"};
    struct pl_identity identity;
    struct pl_error err = {.text = ""};
    ck_assert_int_eq(mkdirat(dir, names[_i], 0700), 0);
    ck_assert_int_eq(pl_identity_open(dir, 1, &err, &identity), PL_IDENTITY_E_LOST);
    ck_assert_int_eq(faccessat(dir, "STORE", F_OK, 0), -1);
}
END_TEST

START_TEST(one_process_has_it_open)
{
    int fd = -1, other = -1;
    struct pl_error err = {.text = ""};
    ck_assert_int_eq(pl_identity_lock(dir, &err, &fd), 0);
    ck_assert_int_eq(pl_identity_lock(dir, &err, &other), PL_IDENTITY_E_LOCKED);
    ck_assert_int_eq(other, -1);
    pid_t pid = fork();
    if (pid == 0)
        _exit(pl_identity_lock(dir, &err, &other) == PL_IDENTITY_E_LOCKED ? 0 : 1);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    close(fd);
    ck_assert_int_eq(pl_identity_lock(dir, &err, &other), 0);
    close(other);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("identity");
    TCase *tcase = tcase_create("identity");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, it_stays_what_it_was);
    tcase_add_test(tcase, two_stores_differ);
    tcase_add_test(tcase, each_flipped_bit_is_seen);
    tcase_add_test(tcase, a_newer_one_is_refused_by_name);
    tcase_add_loop_test(tcase, data_without_store_is_not_fresh, 0, 2);
    tcase_add_test(tcase, one_process_has_it_open);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
