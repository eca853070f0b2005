/*
 * Commands and options of a program, by tables.
 *
 * The tables are generated (options_gen.h has them, and a typed parser for each command); what reads command lines, the
 * environment and values of the configuration file by them is here. A command's structure is filled in with the
 * defaults, then with what the environment says, then with the arguments.
 */
#ifndef HT_OPT_OPT_H
#define HT_OPT_OPT_H

#include "base/base.h"
#include "base/err.h"

#include <stdio.h>

/* What a parser returns beside 0 and an error: the caller prints it. */
enum opt_asked { OPT_HELP = 1, OPT_VERSION = 2 };

/* ---- values ---- */

/* A host and a port. `host` has no brackets; `text` is what the user wrote. */
struct opt_addr {
    const char *text;
    char host[256];
    uint16_t port;
};

/* A network: `family` is 4 or 6, the address' bytes are in network order, only the first `bits` bits count. */
struct opt_cidr {
    uint8_t family, bits;
    uint8_t addr[16];
};

struct opt_port_range {
    uint16_t first, last;
};

/* True when the address (4 or 16 bytes, as family is 4 or 6) is in one of the networks. A v4-mapped IPv6 address
 * counts as the IPv4 address it holds. */
bool opt_cidrs_match(const struct opt_cidr *list, size_t n, int family, const uint8_t *addr);

bool opt_ports_contain(const struct opt_port_range *list, size_t n, uint16_t port);

/* ---- tables ---- */

enum opt_type {
    OPT_TYPE_STRING,
    OPT_TYPE_FILE,
    OPT_TYPE_SECRET,
    OPT_TYPE_BOOL,
    OPT_TYPE_INT,
    OPT_TYPE_DURATION, /* uint64_t, milliseconds */
    OPT_TYPE_SIZE,     /* uint64_t, bytes */
    OPT_TYPE_ADDR,
    OPT_TYPE_IP,
    OPT_TYPE_CIDR, /* a list, as the next two */
    OPT_TYPE_PORTS,
    OPT_TYPE_HEADER,
    OPT_TYPE_DESTINATION, /* texts, each a comma list: its user knows what may be in it */
    OPT_TYPE_FORWARD,     /* texts, PORT=TARGET: the same */
    OPT_TYPE_FILES,       /* texts, each a comma list of names of files */
    OPT_TYPE_LISTEN,      /* texts, addresses with or without http:// or https://: the same */
    OPT_TYPE_HOSTS,       /* texts, hosts: the same */
    OPT_TYPE_ENUM,
};

#define OPT_MAX_OPTIONS 64 /* of one command */

/* One option of one command, or one value of a mapping. Offsets are into the structure that is filled in. */
struct opt_option {
    const char *name, *env, *unit, *default_text, *min_text, *max_text, *example, *refuse;
    uint64_t min, max;
    const char *const *values;
    const int *numbers; /* of the values */
    size_t n_values;
    size_t field, count, given;
    enum opt_type type;
    char letter; /* -f; 0: none */
    bool hidden;
};

struct opt_command {
    const char *name; /* its words, with one space between */
    const char *doc;
    const char *const *help; /* lines */
    size_t n_help;
    const struct opt_option *options;
    size_t n_options, size, args, n_args;
    size_t min_args, max_args, unless; /* `unless`: offset of a bool that makes arguments unnecessary */
    const char *arg_name;
    bool has_unless;
    bool single_dash; /* its options may be written -name, too */
    int id;
};

/* A word of other tools, in the place of a command ("") or among its options. */
struct opt_hint {
    const char *word, *command, *says;
};

/* What is meant without a command: which one, by the word behind its arguments ("": none). */
struct opt_one_word {
    const char *word;
    int command; /* its number */
};

struct opt_program {
    const char *name;
    const struct opt_command *commands;
    size_t n_commands;
    const struct opt_one_word *one_word;
    size_t n_one_word;
    const struct opt_hint *hints;
    size_t n_hints;
    const char *const *overview; /* lines */
    size_t n_overview;
};

/* ---- command lines ---- */

/*
 * Finds the command in argv, whose first element is the program's name.
 *
 * 0: `*command` is it, and its arguments begin at argv[*used]. OPT_HELP: help was asked for, with `*command`, or NULL
 * for all, as when nothing was said. OPT_VERSION. HT_EINVAL: `err` says why.
 */
int opt_command_find(const struct opt_program *p, int argc, char **argv, const struct opt_command **command, int *used,
                     struct ht_errmsg *err) HT_MUST_USE;

/*
 * For a command line whose first word is one of the arguments that a command takes: `*command` is the one that is meant
 * by the word behind them. Its arguments begin at argv[1]; the word is taken out of argv and *argc. HT_EINVAL: the word
 * is another tool's, and `err` says what to write.
 */
int opt_command_left_out(const struct opt_program *p, int *argc, char **argv, const struct opt_command **command,
                         struct ht_errmsg *err) HT_MUST_USE;

/*
 * `argv` is what follows the command's words; `out` is the structure of `c`. Strings in it point into argv and the
 * environment, or are static: they outlive it. Lists belong to it.
 *
 * 0: it is filled in. OPT_HELP, OPT_VERSION: asked for, nothing printed. HT_EINVAL: `err` says what is wrong and what
 * would be right. HT_ENOMEM. In all but the first case it holds nothing.
 */
int opt_parse(const struct opt_program *p, const struct opt_command *c, void *out, int argc, char **argv,
              struct ht_errmsg *err) HT_MUST_USE;

/* Frees the lists and clears the structure; harmless when done twice. */
void opt_free(const struct opt_command *c, void *out);

/* What `COMMAND --help` prints, and all commands with one line each. */
void opt_help(const struct opt_command *c, FILE *to);
void opt_overview(const struct opt_program *p, FILE *to);

/*
 * ---- the configuration file ----
 *
 * A mapping has keys; those with one value fill in the mapping's structure, as an option does.
 */
enum opt_key_kind {
    OPT_KEY_VALUE, /* one value */
    OPT_KEY_TEXTS, /* a mapping whose keys are free and whose values are texts */
    OPT_KEY_LINES, /* a list of texts */
    OPT_KEY_LIST,  /* a list of mappings `of` a kind */
};

struct opt_key {
    const char *name, *example;
    enum opt_key_kind kind;
    int of;       /* the number of the mapping */
    unsigned max; /* texts, items */
    bool required, is_bool;
};

struct opt_mapping {
    const char *name;
    const struct opt_key *keys;
    size_t n_keys;
    const struct opt_option *options; /* for the keys with one value */
    size_t n_options, size;
};

/* Clears the structure of the mapping and fills in the defaults. 0 or HT_ENOMEM. */
int opt_mapping_defaults(const struct opt_mapping *m, void *out) HT_MUST_USE;
/* Sets the value of a key of kind OPT_KEY_VALUE; `text` has to outlive the structure. HT_EINVAL with *err, HT_ENOMEM.
 */
int opt_mapping_set(const struct opt_mapping *m, void *out, const struct opt_key *key, const char *text,
                    struct ht_errmsg *err) HT_MUST_USE;
/* NULL: there is no such key; *near is the name that was meant, or NULL. */
const struct opt_key *opt_mapping_find(const struct opt_mapping *m, const char *name, const char **near);

#endif
