/*
 * Reads YAML files whose mappings and keys spec/options.yaml declares, and reports each problem with its place.
 *
 * A reader has a present event of the YAML parser. Functions that read a value are called when its first event is the
 * present one. When they return, its last event is the present one.
 */
#ifndef HT_OPT_YAML_H
#define HT_OPT_YAML_H

#include "base/base.h"
#include "base/err.h"
#include "opt/file.h"
#include "options_gen.h"

#include <yaml.h>

struct opt_yaml {
    struct opt_file *file;
    yaml_parser_t yaml;
    yaml_event_t event; /* the present event; the reader owns it */
    bool has_event;
    bool as_it_is; /* ${NAME} in values of mappings is not replaced */
    int rc;        /* HT_EINVAL: not valid YAML, and that was reported; HT_ENOMEM */
};

/*
 * Reads a whole text. top() is called once, at the first event of the document. `empty` is the problem of a file
 * without content. Problems are added to *file. 0 also with problems; HT_EINVAL: the text is not valid YAML; HT_ENOMEM.
 */
int opt_yaml_read(struct opt_file *file, const char *text, size_t n, void (*top)(struct opt_yaml *r),
                  const char *empty) HT_MUST_USE;

/* Advances to the next event. False: there is none. */
bool opt_yaml_next(struct opt_yaml *r);
/* Skips the node that begins with the present event. */
void opt_yaml_skip(struct opt_yaml *r);
/* The place of the present event. */
struct opt_mark opt_yaml_here(const struct opt_yaml *r);
/* The kind of the present event, for messages: "a list", "a value" and so on. */
const char *opt_yaml_kind(const struct opt_yaml *r);
/* Reports anchors and tags, which are not supported. */
void opt_yaml_refuse_extras(struct opt_yaml *r);
/*
 * The text of the present event, a scalar; it is kept in the file. `what` is its key. `as_it_is`: variables in it are
 * not replaced. NULL with r->rc set: out of memory. Other NULL: it is not a scalar, or empty; that was reported, and
 * the node was skipped.
 */
const char *opt_yaml_text(struct opt_yaml *r, const char *what, const char *example, bool as_it_is);

/* Which keys of one mapping were seen. */
struct opt_seen {
    struct opt_mark at[64]; /* place by key; line 0: not seen */
};

/* Advances to the next key of a mapping. True: the value's first event is the present one, and *key is the key. *key
 * NULL: the key is unknown, and its value was skipped. */
bool opt_yaml_next_key(struct opt_yaml *r, enum opt_mapping_id id, struct opt_seen *seen, const struct opt_key **key);
/* Reports missing keys, at the place where the mapping began. */
void opt_yaml_require(struct opt_yaml *r, enum opt_mapping_id id, const struct opt_seen *seen, struct opt_mark at);
/* Stores the key's value in the mapping's structure. */
void opt_yaml_set(struct opt_yaml *r, enum opt_mapping_id id, void *out, const struct opt_key *key);
/* True when the present event begins a node of this type. False: that was reported, and the node was skipped. */
bool opt_yaml_has(struct opt_yaml *r, const struct opt_key *key, yaml_event_type_t type, const char *wanted);

#endif
