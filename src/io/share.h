/*
 * A share bounds what the connections of one user read together. In a turn of the loop all of them may read as much as
 * one connection without a share, so that many connections of one user do not slow down other users. A rate bounds it
 * over time as well. Only reading is bounded: everything that is written was read before.
 *
 * A connection that may not read now is held: its readable() is not called until its turn comes.
 */
#ifndef HT_IO_SHARE_H
#define HT_IO_SHARE_H

#include "io/io.h"

struct io_share {
    struct io_loop *loop;
    uint64_t rate;          /* bytes a second; 0: any. Set it with io_share_set_rate() */
    uint64_t filled_us;     /* when `left` was brought up to date; monotonic */
    int64_t left;           /* bytes that the rate allows now */
    int64_t turn;           /* bytes that this turn of the loop still allows */
    struct ht_list waiting; /* struct io_conn that are held, in the order of their turns */
    struct io_task next;    /* lets the next ones read */
    struct io_timer timer;  /* the same, once the rate allows more */
    unsigned n_conns;       /* connections that belong to it */
};

void io_share_init(struct io_loop *loop, struct io_share *s);
/* Call it when no connection belongs to it any more. Does nothing for a zero-initialised one. */
void io_share_stop(struct io_share *s);
/* `rate` in bytes a second; 0: any. */
void io_share_set_rate(struct io_share *s, uint64_t rate);
/* Makes the connection a part of the share, which must outlive it; NULL: of none, which always succeeds. 0, or
 * HT_ENOMEM: nothing has changed. */
int io_conn_set_share(struct io_conn *c, struct io_share *s) HT_MUST_USE;
void io_conn_leave_share(struct io_conn *c);

#endif
