/*
 * Configuration files: any bytes give bindings or problems, each problem one line of text at a place in the file, and
 * the same again when they are read again. Nothing is leaked.
 *
 * Input: the file.
 */
#include "cli/cli.h"
#include "cli/config.h"
#include "driver/url.h"
#include "fuzz.h"

static unsigned lines_of(const uint8_t *data, size_t size) {
    unsigned n = 1;
    for (size_t i = 0; i < size; i++)
        n += data[i] == '\n' || data[i] == '\r' || data[i] >= 0x80; /* YAML has line breaks beyond ASCII */
    return n;
}

static void check_problems(const struct cli_config *c, unsigned lines) {
    for (size_t i = 0; i < c->file.n_problems; i++) {
        const struct opt_problem *p = &c->file.problems[i];
        FUZZ_CHECK(p->at.line >= 1 && p->at.line <= lines + 1 && p->at.column >= 1);
        FUZZ_CHECK(i == 0 || p->at.line >= c->file.problems[i - 1].at.line);
        FUZZ_CHECK(p->text[0] != '\0');
        for (const char *q = p->text; *q; q++)
            FUZZ_CHECK((unsigned char)*q >= 0x20 && *q != 0x7f);
    }
}

static void check_result(const struct cli_config *c) {
    struct driver_target local;
    const char *leads_to;
    FUZZ_CHECK(c->n_bindings > 0 && c->n_bindings <= 512);
    for (size_t i = 0; i < c->n_bindings; i++) {
        FUZZ_CHECK(c->bindings[i].portless ? cli_reach_parse(c->bindings[i].by_name, &leads_to, NULL) == HT_OK
                                           : driver_target_parse(&local, c->bindings[i].target, NULL) == HT_OK);
        FUZZ_CHECK(!c->bindings[i].host || driver_host_is_local(c->bindings[i].host));
        FUZZ_CHECK(c->bindings[i].pull || !c->bindings[i].host);
        FUZZ_CHECK(!c->bindings[i].pull || !c->bindings[i].takeover);
    }
    for (size_t i = 0; i < c->n_headers; i++)
        FUZZ_CHECK(strchr(c->headers[i], ':') && !strpbrk(c->headers[i], "\r\n"));
    FUZZ_CHECK(c->top.connections >= 1 && c->top.url && c->top.url[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cli_config c, again;
    size_t live = ht_mem_live();
    char *text = fuzz_copy(data, size);
    int rc = cli_config_parse(&c, "dir/file.yaml", text, size);
    FUZZ_CHECK(rc == HT_OK || rc == HT_EINVAL);
    FUZZ_CHECK((rc == HT_OK) == (c.file.n_problems == 0));
    check_problems(&c, lines_of(data, size));
    if (rc == HT_OK)
        check_result(&c);
    FUZZ_CHECK(cli_config_parse(&again, "dir/file.yaml", text, size) == rc &&
               again.file.n_problems == c.file.n_problems && again.n_bindings == c.n_bindings);
    cli_config_free(&c);
    cli_config_free(&again);
    free(text);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
