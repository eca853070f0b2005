/* What the files of hooks share. */
#ifndef HT_EDGE_HOOKS_PRIV_H
#define HT_EDGE_HOOKS_PRIV_H

#include "edge/hooks.h"
#include "edge/policy_priv.h"

#define HOOKS_CAPTURES 9

/* ---- hooks_path.c: paths, patterns, texts with parts to fill in ---- */

/* A path as it is compared: %XX of letters, digits and -_~ become those, others get upper case, %2F is a slash; doubled
 * slashes and parts . and .. go. Appends to `out`. *odd: there was a ., .., %2E, %2F, %5C or a byte that no path has,
 * with which another reader may see another path. 0 or HT_ENOMEM. */
int hook_path_normal(struct ht_slice path, struct ht_buf *out, bool *odd) HT_MUST_USE;
/* Whether it is what hook_path_normal() makes, and nothing odd. */
bool hook_path_is_good(struct ht_slice path);

enum hook_path_kind { HOOK_PATH_ANY, HOOK_PATH_EXACT, HOOK_PATH_PREFIX, HOOK_PATH_PATTERN };

/* A part of a pattern: one * between `before` and `after`, or the text `before` alone. */
struct hook_part {
    struct ht_slice before, after;
    bool star, rest; /* rest: the part ** */
};

struct hook_path {
    enum hook_path_kind kind;
    struct ht_slice text;
    struct hook_part *parts;
    size_t n;
};

struct hook_captures {
    struct ht_slice all[HOOKS_CAPTURES];
    size_t n;
};

/* Splits a pattern. NULL, or what is wrong with it; HT_ENOMEM in *rc. */
const char *hook_pattern_read(struct hook_path *p, struct ht_slice text, int *rc);
/* `path` is in its normal form. What stars stand for is in *c, which points into it. */
bool hook_path_matches(const struct hook_path *p, struct ht_slice path, struct hook_captures *c);
/* Whether `path` is `prefix`, or is below it; *rest is what is behind. */
bool hook_path_below(struct ht_slice path, struct ht_slice prefix, struct ht_slice *rest);

enum hook_piece_kind { HOOK_TEXT, HOOK_CAPTURE, HOOK_PATH, HOOK_METHOD, HOOK_CLIENT };

struct hook_piece {
    enum hook_piece_kind kind;
    unsigned n; /* of a capture, from 0 on */
    struct ht_slice text;
};

/* A text with parts that a request fills in. */
struct hook_text {
    struct hook_piece *pieces;
    size_t n;
};

/* NULL, or what is wrong with it; HT_ENOMEM in *rc. `captures`: how many there are. */
const char *hook_text_read(struct hook_text *t, struct ht_slice s, size_t captures, int *rc);

struct hook_filling {
    struct ht_slice path, method, client;
    struct hook_captures captures;
};
int hook_text_fill(const struct hook_text *t, const struct hook_filling *f, struct ht_buf *out) HT_MUST_USE;

/* ---- hooks_fields.c ---- */

/* Whether a hook may set, add or remove the field; else what it is, in a word or two: static storage. */
const char *hook_field_fault(struct ht_slice name, bool on_response);

/* ---- a document ---- */

enum hook_action_kind { HOOK_SET, HOOK_ADD, HOOK_DEL, HOOK_REWRITE, HOOK_REPLY, HOOK_LIMIT, HOOK_FORWARD };

struct hook_field {
    struct ht_slice name; /* in lower case */
    struct hook_text value;
};

struct hook_action {
    enum hook_action_kind kind;
    bool on_response;
    struct hook_field *fields; /* to set, to add, to remove, of a reply */
    size_t n;
    struct ht_slice prefix; /* of a path to rewrite; .p NULL: all of it */
    struct hook_text to;
    unsigned status;
    struct ht_slice body;
    unsigned requests, seconds;
    char container[EDGE_ID + 1]; /* "": the same */
    struct ht_slice program;
    unsigned index;
};

enum hook_want_kind { HOOK_WANT_ABSENT, HOOK_WANT_PRESENT, HOOK_WANT_TEXT, HOOK_WANT_AROUND };

/* A header field that a hook looks at; AROUND: anything may stand between the two texts. */
struct hook_want {
    struct ht_slice name, before, after;
    enum hook_want_kind kind;
};

struct hook {
    struct ht_slice service, id;
    struct ht_slice methods[HOOKS_METHODS_MAX];
    size_t n_methods;
    struct hook_path path;
    struct hook_want *wants;
    size_t n_wants;
    struct ht_cidr *nets;
    size_t n_nets;
    unsigned *indexes;
    size_t n_indexes;
    struct hook_action *actions;
    size_t n_actions;
    unsigned timeout_ms;
};

struct edge_hooks {
    struct hook *hooks;
    size_t n;
    char forwards[HOOKS_FORWARDS_MAX][EDGE_ID + 1];
    size_t n_forwards, n_wants;
    bool within;
    char *text; /* what slices point into */
};

/* ---- hooks_read.c and hooks_action.c. All of these tell *g.err, and return its code. ---- */

struct hook_reading {
    struct policy_reading g;
    struct edge_hooks *h;
    struct json_reader at, behind; /* actions are read behind the path whose stars they name */
};

/* A value, or an array of `most` values at most, each read by one(). */
typedef int hook_read_one(struct hook_reading *r, struct hook *to);
int hook_read_some(struct hook_reading *r, struct hook *to, hook_read_one *one, const char *want);
/* A path, in its normal form. */
int hook_read_path(struct hook_reading *r, struct ht_slice *out);
/* A name of a field: in lower case, in place. */
int hook_read_name(struct hook_reading *r, struct ht_slice *name);
/* A whole number. */
int hook_read_number(struct hook_reading *r, unsigned least, unsigned most, unsigned *out);
/* Goes into the item i of an array. */
size_t hook_enter_item(struct hook_reading *r, size_t i);
/* Reads the actions of a hook whose path has been read. */
int hook_read_actions(struct hook_reading *r, struct hook *to);

#endif
