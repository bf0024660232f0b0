/*
 * A new program that is not healthy. What it does stands in the file beside it, "<program>.mode":
 *
 *   refuse         it knows another version of a layout
 *   check-dies     dies when it is asked whether it would do
 *   check-hangs    does not answer
 *   dies           would do, and ends at once when it is run
 *   crashes        the same by a signal
 *   hangs          would do, and then does nothing
 *   state-hangs    a guard that does not say whether it understands the state
 *   state-lies     a guard that says it does; it runs "<program>.real" instead
 */
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/formats.h"

static char self[PATH_MAX];

static bool
mode_is(const char *mode)
{
    char path[PATH_MAX + 8], text[64] = "";
    snprintf(path, sizeof(path), "%s.mode", self);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    if (fgets(text, sizeof(text), file) == NULL)
        text[0] = '\0';
    fclose(file);
    text[strcspn(text, "\n")] = '\0';
    return strcmp(text, mode) == 0;
}

_Noreturn static void
hang(void)
{
    for (;;)
        pause();
}

static int
check(const char *running)
{
    static const struct pl_format other[] = {{"memlog", 99}, {"storelink", 99}, {NULL, 0}};
    static const struct pl_format none[] = {{NULL, 0}};
    struct pl_error err = {.text = ""};
    if (mode_is("check-dies"))
        raise(SIGKILL);
    if (mode_is("check-hangs"))
        hang();
    const struct pl_format *list = mode_is("refuse") ? other : none;
    bool good = pl_formats_check(list, running, &err) == 0;
    return pl_formats_answer("fake", "9.9.9", list, good ? NULL : err.text);
}

int
main(int argc, char **argv)
{
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len <= 0)
        return 1;
    self[len] = '\0';
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--check-upgrade") == 0)
            return check(argv[i + 1]);
    bool state = argc == 2 && strcmp(argv[1], "--check-state") == 0;
    if (mode_is("hangs") || (state && mode_is("state-hangs")))
        hang();
    if (mode_is("crashes"))
        raise(SIGABRT); /* sanitizers leave it alone */
    if (mode_is("state-lies")) {
        char real[PATH_MAX + 8];
        if (state)
            return 0;
        snprintf(real, sizeof(real), "%s.real", self);
        execv(real, argv);
        return 1;
    }
    return 3;
}
