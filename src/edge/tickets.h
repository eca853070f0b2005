/*
 * Who has logged in on a page. A ticket is a random text that a browser keeps as a cookie; here is only its digest,
 * with the container, the policy and the group that it is good for. It ends with its age, when it was not used for a
 * while, when the permissions change, by a log out, and with this program.
 */
#ifndef HT_EDGE_TICKETS_H
#define HT_EDGE_TICKETS_H

#include "base/base.h"
#include "io/io.h"

#define EDGE_TICKET 44                 /* bytes of a ticket with its NUL: 32 random ones in 43 letters */
#define EDGE_TICKETS_MAX 16384         /* of all; then the one that was used longest ago makes room */
#define EDGE_TICKETS_OF_CONTAINER 1024 /* and of a container: no tenant pushes out those of others */

struct edge_tickets;

/* NULL: no memory. */
struct edge_tickets *edge_tickets_create(struct io_loop *loop) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void edge_tickets_destroy(struct edge_tickets **t);

struct edge_ticket_for {
    struct ht_slice container; /* PROJECT-CONTAINER */
    struct ht_slice group;
    uint64_t policy; /* its serial */
    unsigned max_age_s, idle_s;
};

/* Writes a new ticket. 0, HT_ENOMEM, or HT_EINVAL: a text is too long. */
int edge_tickets_issue(struct edge_tickets *t, const struct edge_ticket_for *f, char out[EDGE_TICKET]) HT_MUST_USE;
/* Whether the ticket is good for a container with this policy; it is used then. *group is valid until the next call. */
bool edge_tickets_use(struct edge_tickets *t, struct ht_slice ticket, struct ht_slice container, uint64_t policy,
                      struct ht_slice *group);
/* It is good no more. Harmless for one that is none, or of another container. */
void edge_tickets_end(struct edge_tickets *t, struct ht_slice ticket, struct ht_slice container);
size_t edge_tickets_count(const struct edge_tickets *t);

#endif
