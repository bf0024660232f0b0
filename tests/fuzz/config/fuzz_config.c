/* Any bytes as a configuration: an answer, no crash, and what is accepted can be printed. The first
 * byte chooses strict JSON. */
#include "config/config.h"
#include "config/output.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libfyaml 0.7.12 loses the array that grows while it takes a scalar with very many quotes apart
 * (fy_atom_iter_chunk_next()): 2 KiB a parse, and a configuration is parsed once. What we lose
 * ourselves is still found. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
    return "leak:libfyaml.so\n";
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    struct pl_config_options opts = {.check_features = true};
    struct pl_config *config = NULL;
    char *text = NULL;
    size_t bytes = 0;
    if (size == 0)
        return 0;
    int r = pl_config_from_text("fuzz", "/", (const char *)data + 1, size - 1, data[0] == '{',
                                &opts, &config, &diags);
    if ((r == 0) != (config != NULL) || (r == 0 && diags.errors))
        abort();
    FILE *out = open_memstream(&text, &bytes);
    if (out) {
        pl_diagnostics_print(&diags, out);
        pl_diagnostics_print_json(&diags, out);
        if (config)
            pl_config_print(config, PL_CONFIG_FORM_YAML, false, out);
        fclose(out);
    }
    free(text);
    pl_config_free(config);
    pl_diagnostics_deinit(&diags);
    return 0;
}
