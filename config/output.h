/*
 * What is made from the table and from a loaded configuration: printed configurations, the JSON
 * Schema, the reference page, the fuzz dictionary. Everything returns nothing; look at ferror().
 */
#ifndef PL_CONFIG_OUTPUT_H
#define PL_CONFIG_OUTPUT_H

#include "config/config.h"

#include <stdio.h>

enum pl_config_form {
    PL_CONFIG_FORM_YAML,
    PL_CONFIG_FORM_JSON,
    PL_CONFIG_FORM_FLAT, /* PATH: VALUE, one a line, for comparing */
};

/* @explicit_only: leave defaults out. Options marked as secret are printed as "***",
 * except with @explicit_only, whose output is meant to be used. */
void pl_config_print(const struct pl_config *config, enum pl_config_form form, bool explicit_only,
                     FILE *out);

/* JSON Schema 2020-12. */
void pl_config_print_schema(FILE *out);

/* docs/CONFIG.md */
void pl_config_print_reference(FILE *out);

/* Dictionary for libFuzzer and AFL++: every key and word. */
void pl_config_print_dictionary(FILE *out);

#endif
