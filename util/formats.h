/*
 * Which versions of shared layouts a program speaks, as one line of text: "channel=2 record=1". The
 * running instance tells its own, a program that is to replace a part of it compares.
 *
 * What is in memory when a program is replaced was written by the one before it and, after a
 * roll-back, is read by that one again. So versions must be equal; a range would promise the way
 * there and not the way back.
 */
#ifndef PL_UTIL_FORMATS_H
#define PL_UTIL_FORMATS_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define PL_FORMATS_TEXT_BYTES 256

struct pl_format {
    const char *name;
    uint32_t version;
};

/* @list: ends with a NULL name. The text is cut when it does not fit. */
void pl_formats_text(const struct pl_format *list, char *ret_text, size_t bytes);

/**
 * pl_formats_check() - whether a program with @list can replace one of an instance that has
 * @running
 *
 * Names that only one of the two has are no obstacle: nobody shares what one side lacks.
 *
 * Return: 0; -EPROTO and a sentence in @err: a version differs, or @running is not such a text.
 */
int pl_formats_check(const struct pl_format *list, const char *running, struct pl_error *err);

/**
 * pl_formats_answer() - what a program says to --check-upgrade, on stdout, as a line of JSON
 * @problem: a sentence, or NULL: it can replace the one that runs
 *
 * {"program":…,"version":…,"formats":…,"compatible":…,"problem":…}
 *
 * Return: the exit status, 0 or 1.
 */
int pl_formats_answer(const char *program, const char *version, const struct pl_format *list,
                      const char *problem);

#endif
