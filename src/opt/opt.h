/*
 * Reads commands and options of a program. It works on generated tables: options_gen.h has them, and a typed parser for
 * each command. The structure of a command is filled in with the defaults first, then from the environment, then from
 * the arguments. Values of the configuration file are read in the same way.
 */
#ifndef HT_OPT_OPT_H
#define HT_OPT_OPT_H

#include "base/base.h"
#include "base/cidr.h"
#include "base/err.h"

#include <stdio.h>

/* Results of a parser other than 0 and an error: the user asks for help or the version, which the caller prints. */
enum opt_asked { OPT_HELP = 1, OPT_VERSION = 2 };

/* ---- values ---- */

/* A host and a port. `host` has no brackets; `text` is the user's spelling. */
struct opt_addr {
    const char *text;
    char host[256];
    uint16_t port;
};

struct opt_port_range {
    uint16_t first, last;
};

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
    OPT_TYPE_CIDR, /* a list, like the next two types */
    OPT_TYPE_PORTS,
    OPT_TYPE_HEADER,
    OPT_TYPE_DESTINATION, /* texts, each a comma list: its user knows what may be in it */
    OPT_TYPE_FORWARD,     /* texts, PORT=TARGET: the same */
    OPT_TYPE_FILES,       /* texts, each a comma list of names of files */
    OPT_TYPE_LISTEN,      /* texts, addresses with or without http:// or https://: the same */
    OPT_TYPE_HOSTS,       /* texts, hosts: the same */
    OPT_TYPE_RULES,       /* texts, changes to a head: the same */
    OPT_TYPE_NETS,        /* texts, each a comma list of networks: the same */
    OPT_TYPE_PAGES,       /* texts, STATUS=FILE or FILE: the same */
    OPT_TYPE_ENUM,
};

#define OPT_MAX_OPTIONS 96 /* of one command */

/* The texts of the tables. A table has the place of a text in it, 0: none. With pointers the loader would write to all
 * tables whenever a process starts, and each process would have them in memory of its own. */
extern const char opt_texts[];

/* The text at a place; NULL: none. */
static inline const char *opt_text(uint32_t place) { return place ? opt_texts + place : NULL; }

/* A value of an enumeration. */
struct opt_choice {
    uint32_t name; /* a text */
    int number;
};
extern const struct opt_choice opt_choices[];

/* One option of one command, or one value of a mapping. `field`, `count` and `given` are offsets in the structure that
 * is filled in. */
struct opt_option {
    uint32_t name, env, unit, default_text, min_text, max_text, example, refuse; /* texts */
    uint64_t min, max;
    uint32_t choices, n_choices; /* those of an enumeration, in opt_choices */
    uint32_t field, count, given;
    enum opt_type type;
    char letter; /* -f; 0: none */
    bool hidden;
};

struct opt_command {
    const char *name; /* its words, separated by one space */
    const char *doc;
    uint32_t help; /* a text */
    const struct opt_option *options;
    size_t n_options, size, args, n_args;
    size_t min_args, max_args, unless; /* `unless`: offset of a bool that makes arguments unnecessary */
    const char *arg_name;
    bool has_unless;
    bool single_dash; /* its options may also be written -name */
    int id;
};

/* A word of another tool that users may type, and the hint for them. `command`: the command among whose options the
 * word stands; "": the word stands in place of a command. */
struct opt_hint {
    uint32_t word, command, says; /* texts */
};

/* The command that is meant when a command line has none, by the word behind its arguments; "": no such word. */
struct opt_one_word {
    const char *word;
    int command; /* number of the command */
};

struct opt_program {
    const char *name;
    const struct opt_command *commands;
    size_t n_commands;
    const struct opt_one_word *one_word;
    size_t n_one_word;
    const struct opt_hint *hints;
    size_t n_hints;
    uint32_t overview; /* a text */
};

/* ---- command lines ---- */

/*
 * Finds the command in argv, whose first element is the program's name.
 *
 * 0: the command is *command, and its arguments begin at argv[*used]. OPT_HELP: the user asks for help about *command,
 * or about all commands when it is NULL; an empty command line counts as that. OPT_VERSION: the user asks for the
 * version. HT_EINVAL: *err says why.
 */
int opt_command_find(const struct opt_program *p, int argc, char **argv, const struct opt_command **command, int *used,
                     struct ht_errmsg *err) HT_MUST_USE;

/*
 * For a command line that begins with the arguments of a command instead of its name. *command is the command that the
 * word behind the arguments means; the word is removed from argv and *argc, and the arguments begin at argv[1]. 0, or
 * HT_EINVAL: the word belongs to another tool, and *err says what to write.
 */
int opt_command_left_out(const struct opt_program *p, int *argc, char **argv, const struct opt_command **command,
                         struct ht_errmsg *err) HT_MUST_USE;

/*
 * Fills in `out`, the structure of the command `c`. `argv` has the arguments behind the command's words. Strings in the
 * structure point into argv or the environment, or are static. The structure owns its lists; opt_free() frees them.
 *
 * 0: it is filled in. OPT_HELP, OPT_VERSION: the user asks for that; nothing was printed. HT_EINVAL: *err says what is
 * wrong and what would be right. HT_ENOMEM. After any result but 0 the structure is empty.
 */
int opt_parse(const struct opt_program *p, const struct opt_command *c, void *out, int argc, char **argv,
              struct ht_errmsg *err) HT_MUST_USE;

/* Frees the lists and clears the structure. A second call is harmless. */
void opt_free(const struct opt_command *c, void *out);

/* Print the text of `COMMAND --help`, and the list of all commands. */
void opt_help(const struct opt_command *c, FILE *to);
void opt_overview(const struct opt_program *p, FILE *to);

/*
 * ---- the configuration file ----
 *
 * A mapping has keys. A key with one value is stored in the mapping's structure, as an option is in its command's.
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
    int of;       /* OPT_KEY_LIST: number of the mapping */
    unsigned max; /* most texts or items */
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
/* Sets the value of a key of kind OPT_KEY_VALUE. `text` must outlive the structure. 0, HT_EINVAL with *err, or
 * HT_ENOMEM.
 */
int opt_mapping_set(const struct opt_mapping *m, void *out, const struct opt_key *key, const char *text,
                    struct ht_errmsg *err) HT_MUST_USE;
/* Finds a key by name. NULL: there is none, and *near is the name that was probably meant, or NULL. */
const struct opt_key *opt_mapping_find(const struct opt_mapping *m, const char *name, const char **near);

#endif
