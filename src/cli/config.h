/*
 * The configuration file of `up`: YAML with the keys that spec/options.yaml declares.
 *
 *   config.c         reads the keys (opt/yaml.h)
 *   config_rules.c   checks the values, and which of them can be combined
 *   config_policy.c  checks the rules for requests in an item of `reach`
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

/* The items of `allow` or `deny`, and where each stands in the file. */
struct cli_config_rules {
    const char *texts[GUARD_RULES_MAX];
    struct opt_mark at[GUARD_RULES_MAX];
    size_t n;
};

/* The rules of an item of `reach` for its requests: `inject`, `allow`, `deny` and so on. Values name where a secret
 * comes from; they hold one only if somebody wrote it into the file. */
struct cli_config_policy {
    struct cli_config_policy *next;
    const char *names[GUARD_HEADERS_MAX], *values[GUARD_HEADERS_MAX]; /* of `inject` */
    struct opt_mark name_at[GUARD_HEADERS_MAX];
    size_t n_names;
    struct cli_config_rules allow, deny;
    const char *user, *replace, *rate; /* NULL: not given */
    struct opt_mark user_at, replace_at, rate_at;
};

/* The lists of an item of `expose`, in the order of their keys. */
enum {
    CLI_GATE_EDGES,
    CLI_GATE_ALLOW,
    CLI_GATE_DENY,
    CLI_GATE_REQUEST,
    CLI_GATE_RESPONSE,
    CLI_GATE_PAGES,
    CLI_GATE_LISTS
};

/* What an item of `expose` says about visitors and heads. */
struct cli_config_gate {
    struct cli_config_gate *next;
    const char *host_header;
    int forwarded; /* enum ht_forwarded */
    bool basic_auth_pass;
    char *basic_auth; /* NULL: not given */
    struct cli_config_rules lists[CLI_GATE_LISTS];
};

/* An item of `expose`, `pull` or `reach`. */
struct cli_config_binding {
    bool pull, takeover;
    const char *by_name;         /* NAME[=TARGET]: an item of `reach`, or the name of a pulled port; NULL: none */
    bool portless;               /* an item of `reach` */
    uint16_t container_port;     /* 0: the kit picks one */
    const char *target;          /* in the form of ht_bind_options.target */
    const char *label, *host;    /* NULL: none */
    const char *name, *hostname; /* at the kit's public port; NULL: none */
    char *ca, *cert, *key;       /* for a tls target; NULL: not given */
    const char *alpn, *sni;      /* the same */
    const struct cli_config_policy *policy; /* of an item of `reach`; NULL: bytes pass as they are */
    const struct cli_config_gate *gate;     /* of an item of `expose` that is a mapping; else NULL */
    struct opt_mark at, target_at, port_at; /* port_at: for an item of `reach`, where its name stands */
};

struct cli_config {
    struct opt_config top;
    /* In the file these paths are relative to it; here they are relative to the working directory. NULL: not given. */
    char *url_file, *state_file, *audit, *token_file, *ca, *proxy_auth_file, *proxy_ca;
    struct opt_mark url_at, token_file_at, ca_at, name_at;
    struct cli_config_binding *bindings;
    size_t n_bindings;
    struct cli_config_policy *policies; /* all of them; bindings point to them */
    struct cli_config_gate *gates;      /* the same */
    const char **headers;               /* "Name: value" */
    struct opt_mark *header_marks;
    size_t n_headers;

    struct opt_file file; /* the problems, and the memory that the pointers above point into */
};

/*
 * Reads the text of a file. 0: it has no mistakes. HT_EINVAL: c->file.problems has all of them. HT_ENOMEM. The caller
 * frees *c in each case. `name` is the file's name, for messages and relative paths; it must outlive *c.
 */
int cli_config_parse(struct cli_config *c, const char *name, const char *text, size_t n) HT_MUST_USE;
/* The same for a file; "-" is standard input. HT_EIO with *err: it cannot be read. */
int cli_config_load(struct cli_config *c, const char *name, struct ht_errmsg *err) HT_MUST_USE;
/* Adds a problem: a struct opt_mark, a format and its arguments. */
#define cli_config_problem(c, ...) opt_file_problem(&(c)->file, __VA_ARGS__)
/* Prints a line for each problem: "name:line:column: error: text". */
void cli_config_print_problems(const struct cli_config *c, FILE *to);
/* Frees everything, and wipes the headers, which may hold secrets. */
void cli_config_free(struct cli_config *c);

/*
 * ---- between these files ----
 *
 * A mistake in the file is added to the problems, and the result is still 0. A negative result is HT_ENOMEM.
 */

/* A copy that lives as long as *c. NULL: out of memory. */
char *cli_config_keep(struct cli_config *c, const char *text, size_t n) HT_MUST_USE;
/* Checks and adds a header. */
int cli_config_header(struct cli_config *c, const char *name, struct opt_mark name_at, const char *value,
                      struct opt_mark value_at) HT_MUST_USE;
/* Checks and adds a binding. `kind` says whether `item` is a struct opt_config_expose, _pull or _reach; `where` has the
 * marks. */
int cli_config_bind(struct cli_config *c, enum opt_mapping_id kind, const void *item,
                    const struct cli_config_binding *where) HT_MUST_USE;
/* The same for an item that is a text instead of a mapping: [CONTAINER_PORT=]LOCAL, or NAME[=TARGET] of `reach`. */
int cli_config_bind_text(struct cli_config *c, enum opt_mapping_id kind, const char *text,
                         struct opt_mark at) HT_MUST_USE;
/* An empty policy, which *c owns. NULL: out of memory. */
struct cli_config_policy *cli_config_policy_add(struct cli_config *c) HT_MUST_USE;
/* Checks the policy of an item of `reach`. */
int cli_config_policy_check(struct cli_config *c, const struct opt_config_reach *reach,
                            struct cli_config_policy *policy, const struct cli_config_binding *where) HT_MUST_USE;
void cli_config_policies_free(struct cli_config *c);
/* The same for what is said about visitors. */
struct cli_config_gate *cli_config_gate_add(struct cli_config *c) HT_MUST_USE;
void cli_config_gates_free(struct cli_config *c);
/* Takes the values of an item of `expose`, and sets the paths. */
int cli_config_gate_set(struct cli_config *c, const struct opt_config_expose *item,
                        struct cli_config_gate *gate) HT_MUST_USE;
/* Called once everything was read. Checks what needs the whole file, such as ports that occur twice, and sets the
 * paths.
 */
int cli_config_finish(struct cli_config *c) HT_MUST_USE;

#endif
