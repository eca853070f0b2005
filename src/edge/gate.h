/*
 * The agent that HAProxy asks about requests for containers with permissions or hooks (SPOP). HAProxy asks `ask` first,
 * which is answered at once. Only where a password must be checked that is not remembered, it asks `login`, which is
 * answered when a thread has done so.
 */
#ifndef HT_EDGE_GATE_H
#define HT_EDGE_GATE_H

#include "edge/hooks_table.h"
#include "edge/policies.h"
#include "edge/tickets.h"
#include "io/io.h"

#define EDGE_GATE_SOCKET "run/gate.sock" /* in the edge's folder */

struct edge_gate;

/* All must outlive it. NULL: no memory. */
struct edge_gate *edge_gate_create(struct io_loop *loop, const struct edge_policies *policies,
                                   const struct edge_hooktable *hooks) HT_MUST_USE;
/* What pages to log in share with it: whose guesses are slowed down, and who has logged in. Valid as long as it. */
struct auth_login *edge_gate_logins(struct edge_gate *g);
struct edge_tickets *edge_gate_tickets(struct edge_gate *g);
/* For a listener's ops: takes the connection of an HAProxy over. */
void edge_gate_accept(struct edge_gate *g, struct io_conn *conn);
/* Ends the connections. Clears the pointer. NULL is ignored. */
void edge_gate_destroy(struct edge_gate **g);

#endif
