/*
 * What the connections of one holder may read together, beside those of others. In a turn of the loop each share reads
 * as much as one connection may, however many connections it has: one holder's flood does not slow the others down. A
 * rate bounds it over time as well. Reading is what is bounded, because everything that is written was read before.
 *
 * A connection that may not read now is held: nobody is told that it is readable, until its turn comes.
 */
#ifndef HT_IO_SHARE_H
#define HT_IO_SHARE_H

#include "io/io.h"

struct io_share {
    struct io_loop *loop;
    uint64_t rate;          /* bytes a second; 0: any. io_share_set_rate() changes it */
    uint64_t filled_us;     /* when `left` was brought up to date */
    int64_t left;           /* bytes that the rate allows now */
    int64_t turn;           /* bytes that this turn of the loop allows */
    struct ht_list waiting; /* of struct io_conn: those that are held, in order */
    struct io_task next;    /* gives the next ones their turn */
    struct io_timer timer;  /* the same, when the rate allows more */
    unsigned n_conns;       /* that belong to it */
};

void io_share_init(struct io_loop *loop, struct io_share *s);
/* No connection belongs to it any more. No-op for zeros. */
void io_share_stop(struct io_share *s);
void io_share_set_rate(struct io_share *s, uint64_t rate);
/* The connection belongs to the share from now on, which outlives it. NULL: to none, which always succeeds. 0 or HT_ENOMEM:
 * nothing changed. */
int io_conn_set_share(struct io_conn *c, struct io_share *s) HT_MUST_USE;
void io_conn_leave_share(struct io_conn *c);

#endif
