/*
 * Files in YAML whose mappings and keys spec/options.yaml declares: events, keys, values, and what is wrong where.
 *
 * A reader stands at an event. Functions that take a value are called with its first event present, and leave with its
 * last one present.
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
    yaml_event_t event; /* the present one; owned */
    bool has_event;
    bool as_it_is; /* ${NAME} in values of mappings means nothing */
    int rc;        /* HT_EINVAL: no YAML, and said so; HT_ENOMEM */
};

/*
 * Reads a whole text; `top` is called once, at the document's first event, and `empty` is the problem of a file that
 * has none. 0, whatever the problems of *file are; HT_EINVAL: it is no YAML, which is among them; HT_ENOMEM.
 */
int opt_yaml_read(struct opt_file *file, const char *text, size_t n, void (*top)(struct opt_yaml *r),
                  const char *empty) HT_MUST_USE;

/* The next event; false at the end of what can be read. */
bool opt_yaml_next(struct opt_yaml *r);
/* Leaves the node that begins with the present event: afterwards its last event is the present one. */
void opt_yaml_skip(struct opt_yaml *r);
struct opt_mark opt_yaml_here(const struct opt_yaml *r);
/* "a list", "a value" and so on, for messages. */
const char *opt_yaml_kind(const struct opt_yaml *r);
/* Anchors and tags have no use here; a file that holds them means something else by them. */
void opt_yaml_refuse_extras(struct opt_yaml *r);
/*
 * The scalar that the present event is, kept. NULL with r->rc set: no memory. NULL otherwise: it is none, or holds
 * nothing, and that was said; the node was skipped. `what` is the key it belongs to. `as_it_is`: with its variables.
 */
const char *opt_yaml_text(struct opt_yaml *r, const char *what, const char *example, bool as_it_is);

/* What has been seen of one mapping. */
struct opt_seen {
    struct opt_mark at[64]; /* by key; line 0: not yet */
};

/* The mapping's next key: true with *key (NULL: not one of ours, the value was skipped) and the value's event present.
 */
bool opt_yaml_next_key(struct opt_yaml *r, enum opt_mapping_id id, struct opt_seen *seen, const struct opt_key **key);
/* Complains of keys that are missing, at the place where the mapping began. */
void opt_yaml_require(struct opt_yaml *r, enum opt_mapping_id id, const struct opt_seen *seen, struct opt_mark at);
/* Sets the key's value in the mapping's structure. */
void opt_yaml_set(struct opt_yaml *r, enum opt_mapping_id id, void *out, const struct opt_key *key);
/* The present event begins a list or a mapping, as `type` has it; else that was said, and it was skipped. */
bool opt_yaml_has(struct opt_yaml *r, const struct opt_key *key, yaml_event_type_t type, const char *wanted);

#endif
