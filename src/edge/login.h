/*
 * The pages of the edge's own where a visitor of a container logs in with a name and a password of a group, and out
 * again. HAProxy hands them requests by a Unix socket: those for HAPROXY_LOGIN_PATH, and those that the gate has
 * answered `page`. Who has logged in gets a ticket as a cookie, which the gate knows (edge/tickets.h).
 *
 *   login.c       requests: forms, checks, tickets
 *   login_page.c  what a browser shows
 *   form.c        what it sends
 */
#ifndef HT_EDGE_LOGIN_H
#define HT_EDGE_LOGIN_H

#include "auth/login.h"
#include "edge/policies.h"
#include "edge/tickets.h"

struct edge_login;

/* All must outlive it. */
struct edge_login_config {
    struct io_loop *loop;
    const struct edge_policies *policies;
    struct auth_login *login; /* the gate's, so that guesses on a page and guesses without one count together */
    struct edge_tickets *tickets;
};

/* NULL: no memory. */
struct edge_login *edge_login_create(const struct edge_login_config *cfg) HT_MUST_USE;
/* For a listener's ops: takes a connection of HAProxy over. */
void edge_login_accept(struct edge_login *s, struct io_conn *conn);
/* Ends the connections. Clears the pointer. NULL is ignored. */
void edge_login_destroy(struct edge_login **s);

/* ---- login_page.c ---- */

#define EDGE_LOGIN_HEADERS 768 /* bytes of edge_page_headers() with their NUL */
/* Field lines of every page: nothing of it is kept, framed, or may run. False: there is no memory. */
bool edge_page_headers(char out[EDGE_LOGIN_HEADERS]);

struct edge_page_login {
    struct ht_slice host, user, to; /* where one logs in, as whom at first, and where to go then */
    const char *said;               /* what was wrong; NULL: nothing yet */
};
/* Each appends a whole page. 0 or HT_ENOMEM. */
int edge_page_put_login(struct ht_buf *b, const struct edge_page_login *p) HT_MUST_USE;
int edge_page_put_logout(struct ht_buf *b, struct ht_slice host) HT_MUST_USE;
int edge_page_put_text(struct ht_buf *b, const char *title, const char *text) HT_MUST_USE;

#endif
