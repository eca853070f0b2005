/*
 * Hooks of a container: a document, and what it does to a request that the gate has let in. Pure, but for memory.
 *
 *   {
 *     "http": [
 *       {"id": "old-api",
 *        "match": {"method": ["GET", "HEAD"], "path": "/v1/user-*", "headers": {"x-beta": true}, "ip":
 * "203.0.113.0/24", "index": 3000}, "actions": [{"set": {"x-user": "${1}"}}, {"del": "x-debug"}, {"add": {"x-from":
 * "edge"}, "on": "response"},
 *                    {"path": {"prefix": "/v1", "to": "/v2"}}],
 *        "timeout": 5000},
 *       {"id": "slow-down", "actions": [{"limit": {"requests": 5, "seconds": 10}}]}],
 *     "*": [{"id": "closed", "match": {"path": {"prefix": "/admin"}}, "actions": [{"reply": {"status": 403}}]}]
 *   }
 *
 * A member is a program, or * for all; the hooks of * come first, then those of the program, each in their order. All
 * of them look at what the visitor has asked for, and do to it what the ones before have left. A reply ends it.
 *
 * `path` is a pattern, or {"exact": P}, {"prefix": P} or {"pattern": P}. A pattern has at most one * in each part
 * between slashes, which stands for one byte or more there, and may end with a part **, which stands for all the rest.
 * So one look at each byte decides, whatever the pattern and the path are. What stars stand for is ${1} to ${9} in
 * values and paths; there are also ${path}, ${method} and ${client}. Paths are compared in one form: without needless
 * percents, doubled slashes, and . and .. parts.
 *
 * A hook cannot name a host or an address: `forward` leads to a container of the same project.
 */
#ifndef HT_EDGE_HOOKS_H
#define HT_EDGE_HOOKS_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "edge/edge_priv.h"

#define HOOKS_DOC_MAX 262144u   /* bytes of a document */
#define HOOKS_SERVICE_MAX 32    /* hooks of a service */
#define HOOKS_MAX 128           /* hooks of a container */
#define HOOKS_ID_MAX 40         /* bytes of a hook's id: a-z, 0-9, - and _ */
#define HOOKS_ACTIONS_MAX 16    /* of a hook */
#define HOOKS_FIELDS_MAX 16     /* header fields of an action, or that a hook looks at */
#define HOOKS_WANTS_MAX 128     /* header fields that all hooks of a container look at */
#define HOOKS_METHODS_MAX 16    /* that a hook looks at */
#define HOOKS_NETS_MAX 64       /* that a hook looks at */
#define HOOKS_PATH_MAX 1024     /* bytes of a path in a document */
#define HOOKS_VALUE_MAX 2048    /* bytes of a field's value */
#define HOOKS_BODY_MAX 4096     /* bytes of a reply's body */
#define HOOKS_RECORDS_MAX 8192u /* bytes of what one request gets from hooks, paths apart */
#define HOOKS_LIMITS 2          /* hooks with a limit that may hold for one request */
#define HOOKS_SECONDS_MAX 3600  /* of a limit */
#define HOOKS_FORWARDS_MAX 16   /* containers that hooks of a container forward to */
#define HOOKS_TIMEOUT_MIN 100   /* milliseconds */
#define HOOKS_TIMEOUT_MAX 300000

struct edge_hooks;

/* Reads a document; `text` is borrowed during the call. NULL: *rc is HT_ENOMEM, or HT_EINVAL, and *err names the member
 * and what would be right. */
struct edge_hooks *edge_hooks_create(struct ht_slice text, int *rc, struct ht_errmsg *err) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void edge_hooks_destroy(struct edge_hooks **h);
size_t edge_hooks_count(const struct edge_hooks *h);
/* The containers that hooks forward to, from 0 on, without those of the same one; NULL behind the last. */
const char *edge_hooks_forward(const struct edge_hooks *h, size_t i);
/* Whether a hook forwards within the container. */
bool edge_hooks_forward_within(const struct edge_hooks *h);

/* A request that the gate has let in. */
struct edge_hook_visit {
    struct ht_slice container; /* its id */
    struct ht_slice program;   /* in lower case, such as terminal */
    unsigned index;            /* the number behind it */
    struct ht_slice method;
    int family; /* of the visitor's address: 4 or 6; 0: not known */
    uint8_t addr[16];
    struct ht_slice target; /* path and query, without secrets of the gate */
    struct ht_slice heads;  /* header fields, a line each */
};

struct edge_hook_limit {
    char key[64];  /* the visitor, the hook and the span of time; an IPv6 visitor is his network of 64 bits */
    unsigned most; /* requests that pass */
    unsigned again_s;
};

struct edge_hooked {
    /* HT_EINVAL: a hook that matches cannot do its work: the path has .., %2e, %2f or the like and should be rewritten,
     * or what comes of a value may not stand in a field, or it becomes too large. The request must not pass. */
    int fault;
    struct ht_buf names; /* of hooks that act, SERVICE/ID, with commas between; for the log */
    /* Records: a byte, a name behind a byte with its length, a value behind two bytes. s, a and d: set, add, remove a
     * field. r: the answer comes from here, with this status; h: a field of it; b: its body. */
    struct ht_buf request, response;
    bool has_path;
    struct ht_buf path;  /* with the query */
    unsigned timeout_ms; /* 0: the usual one */
    struct edge_hook_limit limits[HOOKS_LIMITS];
    size_t n_limits;
    bool forwards;
    char to[EDGE_ID + 1];       /* a container of the same project; "": the same one */
    struct ht_slice to_program; /* valid as long as the hooks */
    unsigned to_index;
};

/* What the hooks do. 0 or HT_ENOMEM. The caller zero-initialises *out, and frees it in each case. `now_s` is the wall
 * clock. */
int edge_hooks_run(const struct edge_hooks *h, const struct edge_hook_visit *v, uint64_t now_s,
                   struct edge_hooked *out) HT_MUST_USE;
void edge_hooked_free(struct edge_hooked *o);

#endif
