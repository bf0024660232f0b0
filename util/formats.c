#include "util/formats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 32

void
pl_formats_text(const struct pl_format *list, char *ret_text, size_t bytes)
{
    size_t at = 0;

    ret_text[0] = '\0';
    for (; list->name != NULL && at + 1 < bytes; list++) {
        int put = snprintf(ret_text + at, bytes - at, "%s%s=%u", at == 0 ? "" : " ", list->name,
                           list->version);
        if (put > 0)
            at += (size_t)put;
    }
}

static int
compare(const struct pl_format *list, const char *name, uint32_t running, struct pl_error *err)
{
    for (; list->name != NULL; list++)
        if (strcmp(list->name, name) == 0 && list->version != running) {
            pl_error_set(err, "layout '%s': the instance has version %u, this program version %u",
                         name, running, list->version);
            return -EPROTO;
        }
    return 0;
}

int
pl_formats_check(const struct pl_format *list, const char *running, struct pl_error *err)
{
    char name[NAME_BYTES];
    unsigned version;
    int used, r = 0;

    for (const char *at = running; r == 0 && *at != '\0'; at += used + (at[used] == ' ')) {
        used = 0;
        if (sscanf(at, "%31[a-z_]=%9u%n", name, &version, &used) != 2 || used == 0 ||
            (at[used] != ' ' && at[used] != '\0')) {
            pl_error_set(err, "'%.60s' is no list of layouts and versions", running);
            return -EPROTO;
        }
        r = compare(list, name, version, err);
    }
    return r;
}

static void
put_text(const char *key, const char *text)
{
    printf("\"%s\":\"", key);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", (unsigned)*text);
        else
            putchar(*text);
    }
    fputs("\",", stdout);
}

int
pl_formats_answer(const char *program, const char *version, const struct pl_format *list,
                  const char *problem)
{
    char text[PL_FORMATS_TEXT_BYTES];

    pl_formats_text(list, text, sizeof(text));
    putchar('{');
    put_text("program", program);
    put_text("version", version);
    put_text("formats", text);
    if (problem != NULL)
        put_text("problem", problem);
    printf("\"compatible\":%s}\n", problem == NULL ? "true" : "false");
    return fflush(stdout) == 0 && problem == NULL ? 0 : 1;
}
