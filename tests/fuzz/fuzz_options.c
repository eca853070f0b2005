/*
 * Command lines and variables: no words crash a parser, a refusal says why in one line, and nothing is leaked.
 *
 * Input: the command (one byte), then words with a NUL behind each; a word "HOODY_...=..." is a variable.
 */
#include "fuzz.h"
#include "options_gen.h"

#define MOST 24

static const struct opt_port_range *ports;
static const struct ht_cidr *cidrs;
static size_t n_ports, n_cidrs;

/* What was accepted is asked for, so that a sanitizer sees all of it. */
static void use_lists(void) {
    static const uint8_t addr[16] = {127, 0, 0, 1};
    for (size_t i = 0; i < n_ports; i++)
        FUZZ_CHECK(ports[i].first >= 1 && ports[i].first <= ports[i].last &&
                   opt_ports_contain(ports, n_ports, ports[i].last));
    for (size_t i = 0; i < n_cidrs; i++) {
        FUZZ_CHECK(cidrs[i].family == 4 ? cidrs[i].bits <= 32 : cidrs[i].family == 6 && cidrs[i].bits <= 128);
        FUZZ_CHECK(ht_cidrs_match(cidrs, n_cidrs, cidrs[i].family, cidrs[i].addr));
    }
    (void)ht_cidrs_match(cidrs, n_cidrs, 4, addr);
    (void)ht_cidrs_match(cidrs, n_cidrs, 6, addr);
}

/* Only the kit has lists. */
static void use_serve(const struct opt_serve *o) {
    ports = o->reserved_ports;
    n_ports = o->n_reserved_ports;
    cidrs = o->trusted_proxy;
    n_cidrs = o->n_trusted_proxy;
    use_lists();
}

static int parse(enum opt_command_id id, int argc, char **argv, struct ht_errmsg *err) {
    int rc = HT_EINVAL;
    switch (id) {
#define PARSE(cmd, CMD)                                                                                                \
    case OPT_CMD_##CMD: {                                                                                              \
        struct opt_##cmd o;                                                                                            \
        rc = opt_##cmd##_parse(&o, argc, argv, err);                                                                   \
        if (rc == 0 && id == OPT_CMD_SERVE)                                                                            \
            use_serve((const void *)&o);                                                                               \
        opt_##cmd##_free(&o);                                                                                          \
        break;                                                                                                         \
    }
        OPT_COMMAND_LIST(PARSE)
#undef PARSE
    }
    return rc;
}

static void check(int rc, const struct ht_errmsg *err) {
    FUZZ_CHECK(rc == 0 || rc == OPT_HELP || rc == OPT_VERSION || rc == HT_EINVAL);
    if (rc == HT_EINVAL)
        FUZZ_CHECK(err->text[0] && memchr(err->text, 0, sizeof err->text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char program[] = "hoody-tunnel";
    char *argv[MOST + 2] = {program}, *vars[MOST];
    int argc = 1, n_vars = 0;
    size_t live = ht_mem_live();
    uint8_t how = size ? data[0] : 0;
    char *words = malloc(size + 1);
    if (!words)
        abort();
    if (size > 1)
        memcpy(words, data + 1, size - 1);
    words[size ? size - 1 : 0] = '\0';
    for (char *p = words, *end = words + (size ? size - 1 : 0); p < end && argc + n_vars < MOST; p += strlen(p) + 1) {
        char *equals = strncmp(p, "HOODY_", 6) == 0 ? strchr(p, '=') : NULL;
        if (!equals) {
            argv[argc++] = p;
            continue;
        }
        *equals = '\0';
        setenv(p, equals + 1, 1);
        vars[n_vars++] = p;
        p = equals + 1;
    }

    struct ht_errmsg err = {""};
    check(parse((enum opt_command_id)(how % OPT_COMMANDS), argc - 1, argv + 1, &err), &err);
    const struct opt_command *command = NULL;
    int used = 0;
    err.text[0] = '\0';
    int rc = opt_command_find(&opt_program, argc, argv, &command, &used, &err);
    check(rc, &err);
    if (rc == 0) {
        FUZZ_CHECK(command && used >= 1 && used <= argc);
        err.text[0] = '\0';
        check(parse(command->id, argc - used, argv + used, &err), &err);
    }
    while (n_vars > 0)
        unsetenv(vars[--n_vars]);
    free(words);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
