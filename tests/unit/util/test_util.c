/* The small helpers of util/. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/types.h"
#include "util/buf.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/formats.h"
#include "util/log.h"
#include "util/paths.h"
#include "util/proc.h"
#include "util/text.h"

static struct pl_str
str(const char *text)
{
    return (struct pl_str){.data = text, .len = strlen(text)};
}

START_TEST(error_prefixes_and_cuts)
{
    struct pl_error err;
    char longer[2000];

    pl_error_set(&err, "unknown key '%s'", "prio");
    pl_error_prefix(&err, "line %d", 12);
    pl_error_prefix(&err, "load %s", "parking.yaml");
    ck_assert_str_eq(err.text, "load parking.yaml: line 12: unknown key 'prio'");
    pl_error_set_errno(&err, -ENOENT, "open x");
    ck_assert_str_eq(err.text, "open x: No such file or directory");
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    pl_error_set(&err, "%s", longer);
    pl_error_prefix(&err, "ctx");
    ck_assert_uint_eq(strlen(err.text), PL_ERROR_TEXT_BYTES - 1);
    ck_assert_int_eq(strncmp(err.text, "ctx: xxx", 8), 0);
    pl_error_set(NULL, "nobody reads this");
}
END_TEST

START_TEST(sizes)
{
    static const struct {
        const char *text;
        int r;
        uint64_t bytes;
    } rows[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {"24GiB", 0, 24ull << 30},
        {"1.5 KiB", 0, 1536},
        {"100MB", 0, 100000000},
        {"2g", 0, 2ull << 30},
        {"16777215TiB", 0, 16777215ull << 40},
        {"16777216TiB", -ERANGE, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"1.3B", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"GiB", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"1.GiB", -EINVAL, 0},
        {"1GiBB", -EINVAL, 0},
    };

    for (size_t i = 0; i < PL_ARRAY_LEN(rows); i++) {
        uint64_t bytes = 0;

        ck_assert_msg(pl_text_parse_size(str(rows[i].text), &bytes) == rows[i].r &&
                          bytes == rows[i].bytes,
                      "'%s'", rows[i].text);
    }
}
END_TEST

START_TEST(durations)
{
    static const struct {
        const char *text;
        int r;
        pl_time ns;
    } rows[] = {
        {"0", 0, 0},
        {"30s", 0, 30 * PL_NS_PER_S},
        {"250ms", 0, 250 * PL_NS_PER_MS},
        {"5m", 0, 300 * PL_NS_PER_S},
        {"2h", 0, 7200 * PL_NS_PER_S},
        {"7d", 0, 7 * 86400 * PL_NS_PER_S},
        {"1.5h", 0, 5400 * PL_NS_PER_S},
        {"1h30m", 0, 5400 * PL_NS_PER_S},
        {"5", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"5x", -EINVAL, 0},
        {"-5s", -EINVAL, 0},
        {"1000000000h", -ERANGE, 0},
    };

    for (size_t i = 0; i < PL_ARRAY_LEN(rows); i++) {
        pl_time ns = 0;

        ck_assert_msg(pl_text_parse_duration(str(rows[i].text), &ns) == rows[i].r &&
                          ns == rows[i].ns,
                      "'%s'", rows[i].text);
    }
}
END_TEST

START_TEST(formats)
{
    char text[PL_TEXT_BYTES];

    ck_assert_str_eq(pl_text_format_size(999, text), "999B");
    ck_assert_str_eq(pl_text_format_size(24ull << 30, text), "24GiB");
    ck_assert_str_eq(pl_text_format_size(1536, text), "1.5KiB");
    ck_assert_str_eq(pl_text_format_duration(0, text), "0s");
    ck_assert_str_eq(pl_text_format_duration(250 * PL_NS_PER_MS, text), "250ms");
    ck_assert_str_eq(pl_text_format_duration(1500 * PL_NS_PER_MS, text), "1.5s");
    ck_assert_str_eq(pl_text_format_duration(150 * PL_NS_PER_S, text), "2m30s");
    ck_assert_str_eq(pl_text_format_duration(3 * 3600 * PL_NS_PER_S + 300 * PL_NS_PER_S, text),
                     "3h05m");
    ck_assert_str_eq(pl_text_format_duration(52 * 3600 * PL_NS_PER_S, text), "2d4h");
}
END_TEST

START_TEST(near_misses)
{
    static const char *const names[] = {"priority", "payload", "queue"};

    ck_assert_uint_eq(pl_text_distance(str("abc"), str("abc"), 3), 0);
    ck_assert_uint_eq(pl_text_distance(str("abc"), str("acb"), 3), 1);
    ck_assert_uint_eq(pl_text_distance(str("kitten"), str("sitting"), 5), 3);
    ck_assert_uint_eq(pl_text_distance(str("abc"), str("xyz"), 1), 2);
    ck_assert_int_eq(pl_text_nearest(str("prioritty"), names, 3), 0);
    ck_assert_int_eq(pl_text_nearest(str("qeue"), names, 3), 2);
    ck_assert_int_eq(pl_text_nearest(str("zebra"), names, 3), -1);
}
END_TEST

START_TEST(buffer_moves_and_grows)
{
    struct pl_buf buf = {0};
    uint8_t next_in = 0, next_out = 0;

    for (int round = 0; round < 500; round++) {
        for (int i = 0; i < round % 37; i++) {
            ck_assert_int_eq(pl_buf_append(&buf, &next_in, 1), 0);
            next_in++;
        }
        while (pl_buf_len(&buf) > (size_t)(round % 11)) {
            ck_assert_uint_eq(*pl_buf_at(&buf), next_out++);
            pl_buf_consume(&buf, 1);
        }
    }
    pl_buf_reset(&buf, 0);
    ck_assert_ptr_null(buf.data);
    uint8_t *at;
    ck_assert_int_eq(pl_buf_reserve(&buf, SIZE_MAX, &at), -ENOMEM);
    ck_assert_int_eq(pl_buf_reserve(&buf, 10000, &at), 0);
    pl_buf_commit(&buf, 10000);
    ck_assert_uint_eq(pl_buf_len(&buf), 10000);
    pl_buf_deinit(&buf);
}
END_TEST

START_TEST(descriptors_travel)
{
    struct stat sent, came;
    int pair[2], fds[4], pipe_fds[2];
    size_t count = 0;
    char data[8];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    ck_assert_int_eq(pl_fd_receive(pair[1], data, sizeof(data), fds, 4, &count), -EAGAIN);
    ck_assert_int_eq(pl_fd_send(pair[0], "hi", 2, pipe_fds, 2), 2);
    ck_assert_int_eq(pl_fd_receive(pair[1], data, sizeof(data), fds, 4, &count), 2);
    ck_assert_uint_eq(count, 2);
    fstat(pipe_fds[0], &sent);
    fstat(fds[0], &came);
    ck_assert(sent.st_ino == came.st_ino);
    ck_assert_int_eq(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    close(fds[0]);
    close(fds[1]);
    /* a look takes nothing */
    ck_assert_int_eq(pl_fd_send(pair[0], "hi", 2, pipe_fds, 1), 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pl_fd_peek(pair[1], data, sizeof(data), fds, 4, &count), 2);
        ck_assert_uint_eq(count, 1);
        fstat(fds[0], &came);
        ck_assert(sent.st_ino == came.st_ino);
        close(fds[0]);
    }
    ck_assert_int_eq(pl_fd_receive(pair[1], data, sizeof(data), fds, 4, &count), 2);
    close(fds[0]);
    ck_assert_int_eq(pl_fd_peek(pair[1], data, sizeof(data), fds, 4, &count), -EAGAIN);
    /* more than there is room for: refused, and nothing stays open */
    ck_assert_int_eq(pl_fd_send(pair[0], "hi", 2, pipe_fds, 2), 2);
    int next = dup(0);
    close(next);
    ck_assert_int_eq(pl_fd_receive(pair[1], data, sizeof(data), fds, 1, &count), -EMSGSIZE);
    ck_assert_int_eq(dup(0), next);
    close(next);
    ck_assert_int_eq(pl_fd_send(pair[0], "too long for it", 15, NULL, 0), 15);
    ck_assert_int_eq(pl_fd_receive(pair[1], data, sizeof(data), fds, 4, &count), -EMSGSIZE);
    close(pair[0]);
    ck_assert_int_eq(pl_fd_receive(pair[1], data, sizeof(data), fds, 4, &count), 0);
    close(pair[1]);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}
END_TEST

/* A process that locks @path, buries that, closes all it has, and stops; it goes on as cat. */
static pid_t
start_holder(const char *path)
{
    int input[2];
    ck_assert_int_eq(pipe(input), 0);
    pid_t pid = fork();
    if (pid != 0) {
        close(input[0]);
        ck_assert_int_eq(waitpid(pid, NULL, WUNTRACED), pid);
        return pid; /* our end of the pipe stays open with us: cat waits */
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    dup2(input[0], STDIN_FILENO);
    if (flock(fd, LOCK_EX) < 0 || pl_fd_bury(fd) < 0 || fcntl(fd, F_GETFD) >= 0)
        _exit(1);
    close_range(3, ~0u, 0);
    raise(SIGSTOP);
    execlp("cat", "cat", (char *)NULL);
    _exit(1);
}

START_TEST(a_buried_file_stays_locked)
{
    char path[] = "/tmp/pl-util-XXXXXX";
    int fd = mkstemp(path);
    pid_t holder = start_holder(path);
    ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), -1);
    ck_assert_int_eq(errno, EWOULDBLOCK);
    if (_i == 0)
        kill(holder, SIGKILL);
    else
        kill(holder, SIGCONT);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0); /* comes with its end, or with exec */
    if (_i == 1)
        ck_assert_int_eq(kill(holder, SIGKILL), 0);
    waitpid(holder, NULL, 0);
    ck_assert_int_eq(pl_fd_bury(-1), -EBADF);
    close(fd);
    unlink(path);
}
END_TEST

START_TEST(a_file_buried_for_now_is_given_up)
{
    char path[] = "/tmp/pl-util-XXXXXX";
    int fd = mkstemp(path), other = open(path, O_RDONLY | O_CLOEXEC), wait_for[2];
    void *grave = NULL;
    char byte;
    ck_assert_int_eq(pipe(wait_for), 0);
    ck_assert_int_eq(flock(other, LOCK_EX), 0);
    ck_assert_int_eq(pl_fd_bury_for_now(other, &grave), 0);
    ck_assert_int_eq(fcntl(other, F_GETFD), -1);
    pid_t child = fork(); /* it does not have the lock */
    if (child == 0) {
        close(wait_for[1]);
        _exit((int)read(wait_for[0], &byte, 1));
    }
    ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), -1);
    pl_fd_exhume(grave);
    ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    pl_fd_exhume(NULL);
    close(wait_for[0]);
    close(wait_for[1]);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(pl_fd_bury_for_now(-1, &grave), -EBADF);
    close(fd);
    unlink(path);
}
END_TEST

START_TEST(processes)
{
    struct pl_proc_stat stat;
    pid_t children[8];
    int proc_fd, found = 0;
    uint64_t ticks;
    pid_t child;

    ck_assert_int_eq(pl_proc_stat_parse(
                         "12 (a) b (c) S 7 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4711 4096 3", &stat),
                     0);
    ck_assert_int_eq(stat.parent, 7);
    ck_assert_int_eq(stat.state, 'S');
    ck_assert_uint_eq(stat.start_ticks, 4711);
    ck_assert_str_eq(stat.name, "a) b (c");
    ck_assert(stat.exiting); /* PF_EXITING, 4, in the flags */
    ck_assert_int_eq(pl_proc_stat_parse(
                         "12 (a) R 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 4096 3", &stat),
                     0);
    ck_assert(!stat.exiting);
    ck_assert_int_eq(pl_proc_stat_parse("nonsense", &stat), -EINVAL);
    ck_assert_int_eq(pl_proc_stat_parse("12 (x) S 7", &stat), -EINVAL);
    ck_assert_int_eq(pl_proc_start_ticks(getpid(), &ticks), 0);
    ck_assert(pl_proc_is_alive(getpid(), ticks));
    ck_assert(!pl_proc_is_alive(getpid(), ticks + 1));
    child = fork();
    if (child == 0)
        _exit(0);
    ck_assert_int_eq(pl_proc_open(&proc_fd), 0);
    int n = pl_proc_children(proc_fd, getpid(), children, 8);
    for (int i = 0; i < n && i < 8; i++)
        found += children[i] == child;
    ck_assert_int_eq(found, 1); /* running or a zombie */
    /* one that cannot look has not found that there is none */
    struct rlimit before, none = {0, 0};
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    n = pl_proc_children(proc_fd, getpid(), children, 8);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_int_eq(n, -EMFILE);
    close(proc_fd);
}
END_TEST

START_TEST(only_children_are_killed)
{
    int status;
    pid_t child = fork();

    if (child == 0)
        for (;;)
            pause();
    /* as if the number were another process's by now */
    ck_assert_int_eq(pl_proc_kill_child(child, getppid()), -ESRCH);
    ck_assert_int_eq(waitpid(child, &status, WNOHANG), 0);
    ck_assert_int_eq(pl_proc_kill_child(child, getpid()), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_int_eq(pl_proc_kill_child(child, getpid()), -ESRCH);
}
END_TEST

START_TEST(instance_names)
{
    char name[PL_INSTANCE_BYTES];
    struct pl_error err;

    unsetenv("PL_INSTANCE");
    ck_assert_int_eq(pl_paths_instance("one", "two", false, name, &err), 0);
    ck_assert_str_eq(name, "one");
    ck_assert_int_eq(pl_paths_instance(NULL, "two", false, name, &err), 0);
    ck_assert_str_eq(name, "two");
    ck_assert_int_eq(pl_paths_instance(NULL, NULL, false, name, &err), 0);
    ck_assert_str_eq(name, "default");
    setenv("PL_INSTANCE", "env", 1);
    ck_assert_int_eq(pl_paths_instance(NULL, "two", false, name, &err), 0);
    ck_assert_str_eq(name, "env");
    ck_assert_int_eq(pl_paths_instance("../up", NULL, false, name, &err), -EINVAL);
    ck_assert_int_eq(pl_paths_instance(".", NULL, false, name, &err), -EINVAL);
}
END_TEST

START_TEST(paths)
{
    char path[PL_PATH_BYTES], sock[PL_SOCKET_PATH_BYTES], dir[] = "/tmp/pl-paths-XXXXXX";
    char deep[200], file[128];
    struct pl_error err;

    setenv("XDG_RUNTIME_DIR", "/x", 1);
    ck_assert_int_eq(pl_paths_run_dir("i", path, &err), 0);
    ck_assert_str_eq(path, "/x/parking-lot/i");
    ck_assert_int_eq(pl_paths_state_dir(NULL, "/etc/p/c.yaml", path, &err), 0);
    ck_assert_str_eq(path, "/etc/p/data");
    ck_assert_int_eq(pl_paths_state_dir("/abs", "/etc/p/c.yaml", path, &err), 0);
    ck_assert_str_eq(path, "/abs");
    memset(deep, 'd', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    ck_assert_int_eq(pl_paths_socket(deep, sock, &err), -ENAMETOOLONG);
    ck_assert_ptr_nonnull(strstr(err.text, "107"));
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/a/b", dir);
    ck_assert_int_eq(pl_paths_make_private(path, &err), 0);
    ck_assert_int_eq(pl_paths_make_private(path, &err), 0);
    ck_assert_int_eq(chmod(path, 0777), 0);
    ck_assert_int_eq(pl_paths_make_private(path, &err), -EPERM);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/a", dir);
    rmdir(path);
    snprintf(file, sizeof(file), "%s/thing", dir);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0700));
    setenv("PL_LIBEXEC_DIR", dir, 1);
    ck_assert_int_eq(pl_paths_find_program("thing", path, &err), 0);
    ck_assert_str_eq(path, file);
    ck_assert_int_eq(pl_paths_find_program("other", path, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, dir));
    unlink(file);
    snprintf(file, sizeof(file), "%s/pl_exec_echo.so", dir);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    setenv("PL_PLUGIN_PATH", "/nonexistent:", 1);
    ck_assert_int_eq(pl_paths_find_plugin("no-such", NULL, path, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent"));
    setenv("PL_PLUGIN_PATH", dir, 1);
    ck_assert_int_eq(pl_paths_find_plugin("echo", NULL, path, &err), 0);
    ck_assert_str_eq(path, file);
    unlink(file);
    rmdir(dir);
}
END_TEST

START_TEST(log_lines)
{
    const struct pl_log_field fields[] = {PL_F_STR("job", "a \"b\"\n"), PL_F_INT("n", -3),
                                          PL_F_BOOL("ok", true), PL_F_STR("none", NULL)};
    char line[512], small[40];
    size_t len;

    pl_log_init("test", PL_LOG_FORMAT_TEXT, PL_LOG_INFO);
    pl_log_encode(PL_LOG_FORMAT_TEXT, 3661001, PL_LOG_WARNING, "died", fields, 4, line,
                  sizeof(line));
    ck_assert_str_eq(
        line, "01:01:01.001Z test warning: died job=\"a \\\"b\\\"\\n\" n=-3 ok=true none=-\n");
    pl_log_encode(PL_LOG_FORMAT_PREFIX, 0, PL_LOG_ERROR, "x", fields + 1, 1, line, sizeof(line));
    ck_assert_str_eq(line, "<3>x n=-3\n");
    pl_log_encode(PL_LOG_FORMAT_JSON, 1001, PL_LOG_INFO, "x\"", fields, 3, line, sizeof(line));
    ck_assert_ptr_nonnull(strstr(line, "\"time\":\"1970-01-01T00:00:01.001Z\""));
    ck_assert_ptr_nonnull(
        strstr(line, "\"message\":\"x\\\"\",\"job\":\"a \\\"b\\\"\\n\",\"n\":-3,\"ok\":true}\n"));
    pl_log_encode(PL_LOG_FORMAT_JOURNAL, 0, PL_LOG_INFO, "x", fields + 1, 1, line, sizeof(line));
    ck_assert_str_eq(line, "PRIORITY=6\nSYSLOG_IDENTIFIER=test\nMESSAGE=x n=-3\nPL_N=-3\n");
    len = pl_log_encode(PL_LOG_FORMAT_TEXT, 0, PL_LOG_INFO, "a text too long for the room", fields,
                        4, small, sizeof(small));
    ck_assert_uint_eq(len, sizeof(small) - 1);
    ck_assert_int_eq(small[len - 1], '\n');
}
END_TEST

START_TEST(log_limit)
{
    struct pl_log_limit limit = {0};
    uint32_t suppressed = 99;

    ck_assert(pl_log_limit_allows(&limit, 100, 2, 1000, &suppressed));
    ck_assert(pl_log_limit_allows(&limit, 101, 2, 1000, &suppressed));
    ck_assert(!pl_log_limit_allows(&limit, 102, 2, 1000, &suppressed));
    ck_assert(!pl_log_limit_allows(&limit, 103, 2, 1000, &suppressed));
    ck_assert(pl_log_limit_allows(&limit, 1100, 2, 1000, &suppressed));
    ck_assert_uint_eq(suppressed, 2);
}
END_TEST

START_TEST(formats_are_compared)
{
    const struct pl_format list[] = {{"channel", 2}, {"record", 1}, {NULL, 0}};
    struct pl_error err = {.text = ""};
    char text[PL_FORMATS_TEXT_BYTES], small[12];

    pl_formats_text(list, text, sizeof(text));
    ck_assert_str_eq(text, "channel=2 record=1");
    pl_formats_text(list, small, sizeof(small));
    ck_assert_str_eq(small, "channel=2 r");
    ck_assert_int_eq(pl_formats_check(list, text, &err), 0);
    ck_assert_int_eq(pl_formats_check(list, "", &err), 0);
    ck_assert_int_eq(pl_formats_check(list, "record=1 memlog=7", &err), 0);
    ck_assert_int_eq(pl_formats_check(list, "memlog=7 channel=3", &err), -EPROTO);
    ck_assert_ptr_nonnull(strstr(err.text, "'channel'"));
    static const char *const bad[] = {
        "channel",     "channel=", "=2", "channel=2record=1", "channel=2  record=1",
        "channel=2 ;", "Channel=2"};
    for (size_t i = 0; i < PL_ARRAY_LEN(bad); i++)
        ck_assert_msg(pl_formats_check(list, bad[i], &err) == -EPROTO, "%s", bad[i]);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("util");
    TCase *tests = tcase_create("util");
    SRunner *runner;
    int failed;

    tcase_add_test(tests, error_prefixes_and_cuts);
    tcase_add_test(tests, sizes);
    tcase_add_test(tests, durations);
    tcase_add_test(tests, formats);
    tcase_add_test(tests, near_misses);
    tcase_add_test(tests, buffer_moves_and_grows);
    tcase_add_test(tests, descriptors_travel);
    tcase_add_loop_test(tests, a_buried_file_stays_locked, 0, 2);
    tcase_add_test(tests, a_file_buried_for_now_is_given_up);
    tcase_add_test(tests, processes);
    tcase_add_test(tests, only_children_are_killed);
    tcase_add_test(tests, instance_names);
    tcase_add_test(tests, paths);
    tcase_add_test(tests, log_lines);
    tcase_add_test(tests, log_limit);
    tcase_add_test(tests, formats_are_compared);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
