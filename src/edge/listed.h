/* HAProxy's list of the requests that it serves, as `show sess all` has it, and sets of what was found in it. */
#ifndef HT_EDGE_LISTED_H
#define HT_EDGE_LISTED_H

#include "edge/edge_priv.h"

/* A request goes by its name, which says where it is in memory: when it has ended, the next one has that name, whosever
 * it is. The number is its own within the process; numbers start again behind the last one of 32 bits. */
struct edge_listed {
    uint64_t process; /* its pid */
    uint64_t since;   /* when its finder saw it first, ms */
    uint32_t number;
    bool old; /* it has lived for a second at least. False: not known */
    bool tls; /* its backend speaks TLS with the container */
    unsigned port;
    char name[20];
    char ip[IO_ADDR_TEXT]; /* of the server; "": it has none yet */
};

/* Takes the next one from the list. False: there is no more. Blocks that are no requests are left out. */
bool edge_listed_next(struct ht_slice *text, uint64_t process, struct edge_listed *out);
/* Whether the number `a` was given after `b`. */
bool edge_listed_newer(uint32_t a, uint32_t b);

/* A zero-initialised one is empty. */
struct edge_listed_set {
    struct edge_listed *list;
    size_t n, cap;
};

/* HT_OK or HT_ENOMEM. */
int edge_listed_add(struct edge_listed_set *set, const struct edge_listed *one) HT_MUST_USE;
/* Must be called after adding, before one is looked for. */
void edge_listed_sort(struct edge_listed_set *set);
/* The one with this process and number. NULL: there is none. Valid until the set changes. */
const struct edge_listed *edge_listed_find(const struct edge_listed_set *set, const struct edge_listed *key);
void edge_listed_free(struct edge_listed_set *set);

#endif
