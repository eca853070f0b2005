/*
 * Aliases: names of one label below NODE.containers.DOMAIN, and domains of one's own that lead to one, each for a
 * service of a container. Documents of the kind EDGE_ALIAS, whose id is a random one that never comes twice: a domain's
 * owner who has chosen an alias is not led elsewhere when somebody else takes its name later. No other room includes
 * it.
 *
 *   alias.c    one alias: its members as JSON, and what is wrong with them
 *   aliases.c  all of them, as entries of the map `hosts`
 */
#ifndef HT_EDGE_ALIASES_H
#define HT_EDGE_ALIASES_H

#include "edge/edge_priv.h"
#include "edge/state.h"

/* ---- alias.c ---- */

#define EDGE_ALIAS_NAME 64    /* bytes of a name with its NUL: a label */
#define EDGE_ALIAS_TARGET 401 /* bytes of a target path with its NUL */
#define EDGE_ALIAS_TIME 32    /* bytes of a time with its NUL */

/* Its members; also the parts of its document. */
enum edge_alias_part {
    EDGE_ALIAS_NAME_PART, /* alias */
    EDGE_ALIAS_PROJECT,   /* project_id: the container's, which it keeps */
    EDGE_ALIAS_CONTAINER,
    EDGE_ALIAS_PROGRAM,
    EDGE_ALIAS_PORT,  /* of http and https */
    EDGE_ALIAS_INDEX, /* of others, as in terminal-1 */
    EDGE_ALIAS_TARGET_PATH,
    EDGE_ALIAS_OVERRIDE,
    EDGE_ALIAS_EXACT,
    EDGE_ALIAS_EXPIRES,
    EDGE_ALIAS_ENABLED,
    EDGE_ALIAS_PARTS
};
extern const char *const edge_alias_parts[EDGE_ALIAS_PARTS];

/* An empty text, 0: it is not said. */
struct edge_alias {
    char name[EDGE_ALIAS_NAME], project[EDGE_ID + 1], container[EDGE_ID + 1], program[EDGE_SERVICE];
    unsigned port, index; /* edge_alias_check() leaves one of the two */
    char target[EDGE_ALIAS_TARGET];
    bool override, exact;
    int64_t expires; /* seconds since 1970; 0: never */
    bool disabled;
};

/* Sets a member to a JSON value; null is as if it was not said. HT_EINVAL with *err, which begins with its name. */
int edge_alias_set(struct edge_alias *a, enum edge_alias_part part, struct ht_slice json,
                   struct ht_errmsg *err) HT_MUST_USE;
/* Whether its members fit together, and none is missing. Without an index it is 1. HT_EINVAL with *err. */
int edge_alias_check(struct edge_alias *a, struct ht_errmsg *err) HT_MUST_USE;
/* Appends a member as JSON; nothing when it is not said. HT_ENOMEM. */
int edge_alias_put(const struct edge_alias *a, enum edge_alias_part part, struct ht_buf *out) HT_MUST_USE;
/* The number in the name, as in terminal-1 and http-3000. */
unsigned edge_alias_number(const struct edge_alias *a);
/* Reads a document. HT_EINVAL with *err. */
int edge_alias_read(struct edge_alias *a, const struct edge_doc *d, struct ht_errmsg *err) HT_MUST_USE;
/* A document of a name that its project has given up: others do not get it at once, as visitors' cookies for it would
 * come to them. It has the parts `alias` and `project_id` of what it was, and this one: seconds since 1970. */
#define EDGE_ALIAS_RELEASED "released_at"
struct edge_released {
    char name[EDGE_ALIAS_NAME], project[EDGE_ID + 1];
    int64_t at;
};
/* False: it is none, but an alias, or nothing that can be read. */
bool edge_alias_released(const struct edge_doc *d, struct edge_released *out);
/* The time of expiry, "2026-12-24T18:00:00Z". Returns `out`. */
char *edge_alias_time(const struct edge_alias *a, char out[EDGE_ALIAS_TIME]);

/* ---- aliases.c ---- */

struct edge_aliases;

struct edge_aliases_config {
    struct io_loop *loop;
    struct edge_state *state;
    struct edge_maps *maps;
    const char *suffix; /* what its hosts end with, from the dot on; borrowed, as `domain` */
    const char *domain; /* no domain of one's own is this one, or below it */
    uint64_t rest_ms;   /* how long a name that a project has given up is kept from others; 0: it is not */
};

/* Makes the map so, and keeps it so when documents change and when aliases expire. NULL: no memory. It ends before the
 * state and the maps do. */
struct edge_aliases *edge_aliases_create(const struct edge_aliases_config *cfg) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void edge_aliases_destroy(struct edge_aliases **a);
/* The id of the alias with a name; NULL: none has it. Valid until documents change. */
const char *edge_aliases_find(const struct edge_aliases *a, const char *name);
/* When a project may have a name that another one has given up, in seconds since 1970. 0: now. */
int64_t edge_aliases_rests(const struct edge_aliases *a, const char *name, const char *project);
/* Whether names that are given up rest. */
bool edge_aliases_keeps_names(const struct edge_aliases *a);
/* Its host. HT_EINVAL with *err: it would be longer than a host may be. */
int edge_aliases_host(const struct edge_aliases *a, const char *name, char out[EDGE_HOST],
                      struct ht_errmsg *err) HT_MUST_USE;
/* Whether it has expired by now. */
bool edge_alias_expired(const struct edge_alias *a);
/* Whether a domain of one's own may have this name: one of the edge's own hosts is none. */
bool edge_aliases_may_lead(const struct edge_aliases *a, const char *domain);

#endif
