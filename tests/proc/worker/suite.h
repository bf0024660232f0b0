/*
 * main() of a test of the worker: PROGRAM PLUGIN_DIR EXECUTOR_DIR, and how to find a plugin.
 */
#ifndef PL_TESTS_PROC_WORKER_SUITE_H
#define PL_TESTS_PROC_WORKER_SUITE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"

static const char *plugin_dir, *executor_dir;

static inline const char *
own_plugin(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s/%s.so", plugin_dir, name);
    return path;
}

static inline const char *
shipped_plugin(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s/pl_exec_%s.so", executor_dir, name);
    return path;
}

static inline int
run_suite(int argc, char **argv, const char *name, TCase *tcase)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s PL_WORKER PLUGIN_DIR EXECUTOR_DIR\n", argv[0]);
        return 2;
    }
    fake_worker_program = argv[1];
    plugin_dir = argv[2];
    executor_dir = argv[3];
    Suite *suite = suite_create(name);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
