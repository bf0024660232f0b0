/*
 * The command executor: what is run, with what around it, and what comes back.
 */
#include "suite.h"

#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fake fake;
static struct fake_job job;
static char directory[64];

static void
begin_with(const char *config, const char *env, uint32_t slots)
{
    struct fake_options options = {
        .plugin = shipped_plugin("command"), .config = config, .slots = slots, .env = {env}};
    fake_start_ready(&fake, &options);
    job = (struct fake_job){.type = "command"};
    fake_meta_reset(&job);
}

static void
begin(void)
{
    begin_with("{}", NULL, 1);
}

static void
drain(void)
{
    fake_control(&fake, PL_S2W_DRAIN);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}

static void
run(void)
{
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
}

static void
run_shell(const char *text)
{
    fake_meta_reset(&job);
    fake_meta(&job, "shell", text);
    run();
}

#define assert_output(text)                                                                        \
    do {                                                                                           \
        ck_assert_msg(fake.done.head.code == PL_FINISH_OK, "%s", fake.done.message);               \
        ck_assert_str_eq((char *)fake.done.data, (text));                                          \
    } while (0)

/* Waits until process @pid is gone: killed processes are reaped by somebody else. */
static bool
goes_away(pid_t pid)
{
    char path[64], line[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    for (int i = 0; i < 1000; i++) {
        FILE *file = fopen(path, "re");
        if (file == NULL)
            return true;
        const char *end = fgets(line, sizeof(line), file) != NULL ? strrchr(line, ')') : NULL;
        fclose(file);
        if (end == NULL || end[2] == 'Z')
            return true;
        usleep(10000); /* nothing tells of the end of a process that is not our child */
    }
    return false;
}

START_TEST(test_argv)
{
    static const char argv[] = "printf\0%s|%s\0a b\0'$HOME'";
    begin();
    fake_meta_bytes(&job, "argv", argv, sizeof(argv));
    run();
    assert_output("a b|'$HOME'");
    ck_assert_uint_ne(fake.done.head.flags & PL_FINISHED_HAS_EXIT_CODE, 0);
    ck_assert_int_eq(fake.done.head.exit_code, 0);
    drain();
}
END_TEST

START_TEST(test_config_default)
{
    begin_with("{\"argv\": [\"cat\"]}", NULL, 1);
    job.payload = "from stdin";
    job.bytes = 10;
    run();
    assert_output("from stdin");
    run_shell("echo 'the job wins'");
    assert_output("the job wins\n");
    drain();
}
END_TEST

START_TEST(test_bad_config)
{
    struct fake_options options = {.plugin = shipped_plugin("command"), .config = "{\"argw\": []}"};
    struct pl_ring_record record;
    fake_start(&fake, &options);
    fake_until(&fake, PL_W2S_FAILED_OPEN, &record);
    ck_assert_ptr_nonnull(memmem(record.body, record.body_bytes, "argw", 4));
    (void)fake_wait_exit(&fake);
    fake_end(&fake);
}
END_TEST

START_TEST(test_environment)
{
    static const char env[] = "ONE=1\0PATH=/usr/bin:/bin";
    begin_with("{}", "PL_SECRET=hidden", 1);
    fake_meta_bytes(&job, "env", env, sizeof(env));
    fake_meta(&job, "shell",
              "echo \"$ONE,$HOME,$PL_ATTEMPT,$PL_JOB_TYPE,${#PL_JOB_ID},$PL_SECRET\"");
    run();
    assert_output("1,,1,command,36,\n");
    run_shell("env | grep -c '^PL_\\(SECRET\\|CONFIG_JSON\\|STATE_DIR\\)'; true");
    assert_output("0\n"); /* nothing of the worker's own reaches a program */
    drain();
}
END_TEST

START_TEST(test_cwd_and_umask)
{
    begin();
    fake_meta(&job, "shell", "pwd; umask");
    fake_meta(&job, "cwd", "/usr/bin");
    fake_meta(&job, "umask", "027");
    run();
    assert_output("/usr/bin\n0027\n");
    fake_meta_reset(&job);
    fake_meta(&job, "shell", "pwd");
    fake_meta(&job, "cwd", "/nonexistent");
    run();
    ck_assert_int_ne(fake.done.head.code, PL_FINISH_OK);
    ck_assert_ptr_nonnull(strstr(fake.done.message, "/nonexistent"));
    drain();
}
END_TEST

/* More than pipes hold, in both directions at once. */
START_TEST(test_large_stdin)
{
    static char payload[4 << 20];
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (char)('a' + i / 3 % 26);
    begin_with("{\"argv\": [\"cat\"]}", NULL, 1);
    job.payload = payload;
    job.bytes = sizeof(payload);
    run();
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_eq(fake.done.bytes, sizeof(payload));
    ck_assert_int_eq(memcmp(fake.done.data, payload, sizeof(payload)), 0);
    drain();
}
END_TEST

START_TEST(test_exit_code)
{
    begin_with("{\"retry_exit\": [75]}", NULL, 1);
    run_shell("echo out; echo why >&2; exit 3");
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_FAIL);
    ck_assert_int_eq(fake.done.head.exit_code, 3);
    ck_assert_ptr_nonnull(strstr(fake.done.message, "exit status 3"));
    ck_assert_ptr_nonnull(strstr(fake.done.message, "why"));
    ck_assert_str_eq((char *)fake.done.data, "out\n"); /* what it wrote is kept */
    run_shell("exit 75");
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_RETRY);
    run_shell("kill -USR1 $$");
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_FAIL);
    ck_assert_uint_ne(fake.done.head.flags & PL_FINISHED_HAS_SIGNAL, 0);
    ck_assert_uint_eq(fake.done.head.exit_signal, SIGUSR1);
    drain();
}
END_TEST

/* Every line of stderr is there, also what came just before the end. */
START_TEST(test_stderr)
{
    begin();
    run_shell("echo one >&2; echo two >&2; printf three >&2");
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_str_eq(fake.log, "one\ntwo\nthree\n");
    uint64_t before = fake.log_lines;
    run_shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done >&2");
    ck_assert_uint_eq(fake.log_lines - before, 3000);
    drain();
}
END_TEST

START_TEST(test_cannot_run)
{
    static const char missing[] = "no-such-program-here", directory_name[] = "/usr";
    begin();
    fake_meta_bytes(&job, "argv", missing, sizeof(missing));
    run();
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_INVALID);
    ck_assert_ptr_nonnull(strstr(fake.done.message, "cannot run 'no-such-program-here'"));
    fake_meta_reset(&job);
    fake_meta_bytes(&job, "argv", directory_name, sizeof(directory_name));
    run();
    ck_assert_int_ne(fake.done.head.code, PL_FINISH_OK);
    ck_assert_ptr_nonnull(strstr(fake.done.message, "Permission denied"));
    fake_meta_reset(&job);
    run();
    ck_assert_ptr_nonnull(strstr(fake.done.message, "nothing to run"));
    drain();
}
END_TEST

START_TEST(test_stream)
{
    begin();
    fake_meta_reset(&job);
    job.flags = PL_DISPATCH_STREAM;
    /* The second half comes only after the first was seen: it is live, not at the end. */
    char text[256];
    snprintf(text, sizeof(text), "echo first; read x < %s/fifo; echo second", directory);
    fake_meta(&job, "shell", text);
    char fifo[128];
    snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    struct pl_ring_record record;
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record);
    ck_assert_str_eq((char *)fake.stream, "first\n");
    FILE *out = fopen(fifo, "we");
    fputs("go\n", out);
    fclose(out);
    unlink(fifo);
    fake_finished(&fake);
    ck_assert_uint_ne(fake.done.head.flags & PL_FINISHED_RESULT_IS_STREAM, 0);
    ck_assert_str_eq((char *)fake.stream, "first\nsecond\n");
    drain();
}
END_TEST

/* A reader that is slow: all of it comes, in order. */
START_TEST(test_stream_back_pressure)
{
    struct fake_options options = {.plugin = shipped_plugin("command"), .report_bytes = 256 << 10};
    fake_start_ready(&fake, &options);
    job = (struct fake_job){.type = "command", .flags = PL_DISPATCH_STREAM};
    fake_meta_reset(&job);
    fake_meta(&job, "shell", "head -c 3000000 /dev/zero | tr '\\0' x");
    run();
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_eq(fake.stream_bytes, 3000000);
    ck_assert_uint_eq(fake.done.head.stream_bytes, 3000000);
    drain();
}
END_TEST

/* Nothing is lost silently: the file holds all of it, and its name is said. */
START_TEST(test_output_limit)
{
    char env[128];
    snprintf(env, sizeof(env), "PL_WORK_DIR=%s", directory);
    begin_with("{\"output_limit\": 1000}", env, 1);
    run_shell("head -c 50000 /dev/zero | tr '\\0' y");
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_le(fake.done.bytes, 1000);
    const char *path = strstr(fake.log, directory);
    ck_assert_msg(path != NULL, "'%s'", fake.log);
    char name[256];
    ck_assert_int_eq(sscanf(path, "%255[^ ,\n]", name), 1);
    struct stat info;
    ck_assert_int_eq(stat(name, &info), 0);
    ck_assert_int_eq(info.st_size, 50000);
    unlink(name);
    drain();
}
END_TEST

START_TEST(test_pty)
{
    begin();
    fake_meta(&job, "shell", "test -t 0 && test -t 1 && stty size");
    fake_meta(&job, "pty", "50x132");
    run();
    ck_assert_msg(fake.done.head.code == PL_FINISH_OK, "%s", fake.done.message);
    ck_assert_ptr_nonnull(strstr((char *)fake.done.data, "50 132"));
    drain();
}
END_TEST

/* A stop ends the program and its children; TERM may be refused, the second stop may not. */
START_TEST(test_cancel)
{
    bool stubborn = _i == 1;
    struct pl_ring_record record;
    begin();
    job.flags = PL_DISPATCH_STREAM;
    fake_meta(&job, "shell",
              stubborn ? "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000"
                       : "sleep 1000 & echo $!; wait");
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record);
    pid_t child = (pid_t)atoi((char *)fake.stream);
    ck_assert_int_gt(child, 1);
    fake_stop_job(&fake, 0, PL_STOP_CANCEL, PL_STOP_ASK);
    if (stubborn)
        fake_stop_job(&fake, 0, PL_STOP_CANCEL, PL_STOP_TERM);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_CANCELLED);
    ck_assert_uint_eq(fake.done.head.exit_signal, stubborn ? SIGKILL : SIGTERM);
    ck_assert(goes_away(child));
    drain();
}
END_TEST

/* What a program leaves in its group does not outlive it, and does not hold the job. */
START_TEST(test_left_behind)
{
    begin();
    run_shell("sleep 1000 & echo $!");
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert(goes_away((pid_t)atoi((char *)fake.done.data)));
    drain();
}
END_TEST

/* In a session of its own, holding the job's stdout: it ends all the same. */
START_TEST(test_left_group)
{
    begin();
    run_shell("setsid sleep 1000 & echo $!");
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert(goes_away((pid_t)atoi((char *)fake.done.data)));
    /* Twice removed, and its parent gone. */
    char text[512], path[128];
    snprintf(path, sizeof(path), "%s/pid", directory);
    snprintf(text, sizeof(text),
             "setsid sh -c 'sleep 1000 & echo $! > %s; sleep 1000' & "
             "until [ -s %s ]; do :; done; cat %s",
             path, path, path);
    run_shell(text);
    unlink(path);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert(goes_away((pid_t)atoi((char *)fake.done.data)));
    drain();
}
END_TEST

START_TEST(test_many_at_once)
{
    begin_with("{}", NULL, 32);
    char text[32];
    for (uint32_t slot = 0; slot < 32; slot++) {
        fake_meta_reset(&job);
        snprintf(text, sizeof(text), "echo %u", slot);
        fake_meta(&job, "shell", text);
        fake_add(&fake, slot, &job);
    }
    fake_ring(&fake);
    for (int i = 0; i < 32; i++) {
        uint32_t slot = fake_finished(&fake);
        snprintf(text, sizeof(text), "%u\n", slot);
        assert_output(text);
    }
    drain();
}
END_TEST

/* Only the three descriptors, no blocked or ignored signals, a session of its own. */
START_TEST(test_clean_start)
{
    begin();
    static const char list[] = "ls\0/proc/self/fd";
    fake_meta_bytes(&job, "argv", list, sizeof(list));
    run();
    assert_output("0\n1\n2\n3\n"); /* the fourth is the directory itself */
    run_shell("grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2 | tr '\\n' ' '; "
              "test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo own");
    assert_output("0000000000000000 0000000000000000 own\n");
    drain();
}
END_TEST

START_TEST(test_run_as_owner)
{
    if (geteuid() != 0) {
        fprintf(stderr, "skipped: run_as needs root\n");
        return;
    }
    const struct passwd *nobody = getpwnam("nobody");
    ck_assert_ptr_nonnull(nobody);
    begin_with("{}", "PL_RUN_AS_OWNER=1", 1);
    job.uid = nobody->pw_uid;
    job.gid = nobody->pw_gid;
    job.flags = PL_DISPATCH_RUN_AS_OWNER;
    fake_meta(&job, "cwd", "/");
    fake_meta(&job, "shell", "id -un; id -G; echo $USER $LOGNAME $HOME; cat /etc/shadow");
    char expected[256];
    run();
    ck_assert_int_ne(fake.done.head.code, PL_FINISH_OK); /* shadow is not theirs */
    snprintf(expected, sizeof(expected), "nobody\n%u\nnobody nobody %s\n", (unsigned)nobody->pw_gid,
             nobody->pw_dir);
    ck_assert_str_eq((char *)fake.done.data, expected);
    drain();
}
END_TEST

int
main(int argc, char **argv)
{
    snprintf(directory, sizeof(directory), "/tmp/pl-test-command-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return 2;
    TCase *tcase = tcase_create("command");
    tcase_add_test(tcase, test_argv);
    tcase_add_test(tcase, test_config_default);
    tcase_add_test(tcase, test_bad_config);
    tcase_add_test(tcase, test_environment);
    tcase_add_test(tcase, test_cwd_and_umask);
    tcase_add_test(tcase, test_large_stdin);
    tcase_add_test(tcase, test_exit_code);
    tcase_add_test(tcase, test_stderr);
    tcase_add_test(tcase, test_cannot_run);
    tcase_add_test(tcase, test_stream);
    tcase_add_test(tcase, test_stream_back_pressure);
    tcase_add_test(tcase, test_output_limit);
    tcase_add_test(tcase, test_pty);
    tcase_add_loop_test(tcase, test_cancel, 0, 2);
    tcase_add_test(tcase, test_left_behind);
    tcase_add_test(tcase, test_left_group);
    tcase_add_test(tcase, test_many_at_once);
    tcase_add_test(tcase, test_clean_start);
    tcase_add_test(tcase, test_run_as_owner);
    int rc = run_suite(argc, argv, "command", tcase);
    (void)rmdir(directory);
    return rc;
}
