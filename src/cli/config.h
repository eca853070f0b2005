/*
 * The configuration file of `up`: YAML with the keys that spec/options.yaml declares.
 *
 *   config.c        the keys, as opt/yaml.h finds them
 *   config_rules.c  what the values mean, and what goes together
 *   config_policy.c the same of what an item of reach says of its requests
 */
#ifndef HT_CLI_CONFIG_H
#define HT_CLI_CONFIG_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "guard/policy.h"
#include "guard/rules.h"
#include "opt/file.h"
#include "options_gen.h"

#include <stdio.h>

struct cli_config_rules {
    const char *texts[GUARD_RULES_MAX];
    struct opt_mark at[GUARD_RULES_MAX];
    size_t n;
};

/* What an item of reach says of its requests. Values hold no secret but one that somebody wrote down in the file. */
struct cli_config_policy {
    struct cli_config_policy *next;
    const char *names[GUARD_HEADERS_MAX], *values[GUARD_HEADERS_MAX];
    struct opt_mark name_at[GUARD_HEADERS_MAX];
    size_t n_names;
    struct cli_config_rules allow, deny;
    const char *user, *replace, *rate; /* NULL: not given */
    struct opt_mark user_at, replace_at, rate_at;
};

struct cli_config_binding {
    bool pull, takeover;
    const char *by_name;     /* NAME[=TARGET], all that there is of an item of reach, and beside a pulled port its name;
                                NULL: none */
    bool portless;           /* an item of reach */
    uint16_t container_port; /* 0: the kit picks */
    const char *target;      /* as the driver wants it */
    const char *label, *host;    /* NULL: none */
    const char *name, *hostname; /* at the kit's public port; NULL: none */
    char *ca, *cert, *key;       /* for a tls target; NULL: not given */
    const char *alpn;
    const struct cli_config_policy *policy; /* of an item of reach; NULL: bytes pass as they are */
    struct opt_mark at, target_at, port_at; /* port_at: of reach, the name */
};

struct cli_config {
    struct opt_config top;
    char *url_file, *state_file, *audit, *token_file,
        *ca; /* relative to the file, made relative to us; NULL: not given */
    struct opt_mark url_at, token_file_at, ca_at, name_at;
    struct cli_config_binding *bindings;
    size_t n_bindings;
    struct cli_config_policy *policies; /* of the bindings */
    const char **headers;               /* "Name: value" */
    struct opt_mark *header_marks;
    size_t n_headers;

    struct opt_file file; /* its problems, and what all the pointers above point to */
};

/*
 * Reads a whole text. 0: it is good. HT_EINVAL: c->file.problems says why not, all of it. HT_ENOMEM. In each case *c
 * has to be freed. `name` is the file's name, for messages and for paths that are relative to it; it outlives *c.
 */
int cli_config_parse(struct cli_config *c, const char *name, const char *text, size_t n) HT_MUST_USE;
/* The same from a file; "-" is standard input. HT_EIO with *err: it cannot be read. */
int cli_config_load(struct cli_config *c, const char *name, struct ht_errmsg *err) HT_MUST_USE;
/* Adds a problem at a place. */
#define cli_config_problem(c, ...) opt_file_problem(&(c)->file, __VA_ARGS__)
/* "name:line:column: error: text" for each. */
void cli_config_print_problems(const struct cli_config *c, FILE *to);
/* Frees everything, and wipes the headers. */
void cli_config_free(struct cli_config *c);

/* ---- between the two files ---- */

/* A copy that lives as long as *c. NULL: out of memory. */
char *cli_config_keep(struct cli_config *c, const char *text, size_t n) HT_MUST_USE;
/* "Name", "value" -> a header. HT_ENOMEM. */
int cli_config_header(struct cli_config *c, const char *name, struct opt_mark name_at, const char *value,
                      struct opt_mark value_at) HT_MUST_USE;
/* A binding of the list; `item` is a struct opt_config_expose or _pull. HT_ENOMEM. */
int cli_config_bind(struct cli_config *c, enum opt_mapping_id kind, const void *item,
                    const struct cli_config_binding *where) HT_MUST_USE;
/* One that says nothing yet. NULL: out of memory. */
struct cli_config_policy *cli_config_policy_add(struct cli_config *c) HT_MUST_USE;
/* Complains about what an item of reach says of its requests. HT_ENOMEM. */
int cli_config_policy_check(struct cli_config *c, const struct opt_config_reach *reach,
                            struct cli_config_policy *policy, const struct cli_config_binding *where) HT_MUST_USE;
void cli_config_policies_free(struct cli_config *c);
/* A text in the place of a mapping: [CONTAINER_PORT=]LOCAL. HT_ENOMEM. */
int cli_config_bind_text(struct cli_config *c, enum opt_mapping_id kind, const char *text,
                         struct opt_mark at) HT_MUST_USE;
/* What can be said once everything was read. HT_ENOMEM. */
int cli_config_finish(struct cli_config *c) HT_MUST_USE;

#endif
