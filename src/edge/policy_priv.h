/* What the files of a policy share. */
#ifndef HT_EDGE_POLICY_PRIV_H
#define HT_EDGE_POLICY_PRIV_H

#include "base/cidr.h"
#include "edge/jwt.h"
#include "edge/policy.h"
#include "json/json.h"

#define DIGEST 32 /* bytes of SHA-256 */

enum group_type { GROUP_NONE, GROUP_IP, GROUP_TOKEN, GROUP_JWT, GROUP_PASSWORD };
extern const char *const group_type_words[];

enum source_kind { SOURCE_HEADER, SOURCE_COOKIE, SOURCE_PARAM };

/* Where a secret stands in a request. */
struct source {
    enum source_kind kind;
    struct ht_slice name; /* of a header: in lower case */
};

struct group {
    struct ht_slice name;
    enum group_type type;
    struct ht_cidr *nets;
    size_t n_nets;
    struct source sources[POLICY_SOURCES_MAX];
    size_t n_sources;
    uint8_t token[DIGEST];
    struct jwt_key *key;
    struct jwt_claim *claims;
    size_t n_claims;
    struct ht_slice user, hash, salt; /* the hash ends with a NUL */
    unsigned max_age_s, idle_s;       /* of logins on a page */
    bool digested;                    /* the hash is of the hexadecimal SHA-256 of salt and password */
};

struct range {
    uint16_t first, last;
};

/* What a group may with a program. */
struct rule {
    unsigned group;
    struct ht_slice program; /* "*": those without a rule of their own */
    bool deny, all;
    struct range *ranges;
    size_t n;
};

struct edge_policy {
    unsigned users;
    uint64_t serial;
    uint8_t of[DIGEST];  /* the digest of the text that it was made of */
    bool enabled, allow; /* the default */
    struct group *groups;
    size_t n_groups;
    struct rule *rules;
    size_t n_rules;
    char *text; /* what slices point into */
    size_t text_n;
};

/* SHA-256. False: it cannot be made. */
bool edge_digest(struct ht_slice a, struct ht_slice b, uint8_t out[DIGEST]);

/* ---- policy_read.c and policy_group.c ---- */

#define WHERE 160

struct policy_reading {
    struct json_reader r;
    struct json_arena arena; /* longer than the document: nothing in it is ever written over */
    struct edge_policy *p;
    char where[WHERE]; /* the member that is read */
    struct ht_errmsg *err;
};

/* All of these tell *g->err, and return its code. */
int policy_wrong(struct policy_reading *g, const char *fmt, ...) HT_PRINTF(2, 3);
int policy_no_memory(struct policy_reading *g);
/* What the reader says; `want` when it is another type than that. */
int policy_bad_json(struct policy_reading *g, const char *want);
/* Goes into a member; returns where it was, for policy_leave(), which is not for a way out with an error. */
size_t policy_enter(struct policy_reading *g, struct ht_slice name);
void policy_leave(struct policy_reading *g, size_t n);
/* Makes room for one more of `size` bytes behind n, all zero; NULL: no memory. */
void *policy_one_more(void **all, size_t n, size_t size);
/* A copy in the arena, with a NUL behind it. */
struct ht_slice policy_kept(struct policy_reading *g, struct ht_slice s);
/* Reads a text, which is kept. */
int policy_text(struct policy_reading *g, struct ht_slice *out, const char *want);
int policy_flag(struct policy_reading *g, bool *out);
/* Reads a group, whose name has been read. */
int policy_group(struct policy_reading *g, struct ht_slice name);

/* ---- credentials.c ---- */

struct edge_field {
    struct ht_slice name, value; /* the value without blanks around it */
};
/* Splits the lines of header fields. Returns their number; what is more than `cap` is left out. */
size_t edge_fields_read(struct ht_slice heads, struct edge_field *out, size_t cap);

/* How often the cookie stands in them: 0, 1, or 2 for more. */
unsigned edge_cookie_find(struct ht_slice name, const struct edge_field *fields, size_t n, struct ht_slice *value);
/* How often the source stands in a request: 0, 1, or 2 for more. *value is what was there; that of a parameter is
 * decoded into `scratch`, of JWT_MAX bytes. A longer one counts as ambiguous. */
unsigned edge_source_find(const struct source *s, const struct edge_field *fields, size_t n, struct ht_slice target,
                          char *scratch, struct ht_slice *value);
/* The part behind "Bearer", or the whole value. */
struct ht_slice edge_bearer(struct ht_slice value);

#endif
