/*
 * The log of the edge: what HAProxy tells of each request, kept in FOLDER/log.db. HAProxy connects to the socket
 * FOLDER/run/log.sock and keeps lines for a while when nobody takes them, so that those of an agent that is away come
 * later. Nothing here makes traffic wait.
 *
 *   logline.c    a line and what is kept of it
 *   logdb.c, logsearch.c   the file
 *   logthread.c  the thread that the file belongs to
 *   log.c        the socket, questions, who follows
 */
#ifndef HT_EDGE_LOG_H
#define HT_EDGE_LOG_H

#include "edge/logthread.h"
#include "io/io.h"

#define EDGE_LOG_SOCKET "run/log.sock"
#define EDGE_LOG_FILE "log.db"

struct edge_log;

struct edge_log_config {
    struct io_loop *loop;
    const char *folder; /* borrowed during edge_log_start() */
    uint64_t max_bytes, max_age_ms;
    bool mask_addresses;
};

/* Listens and starts the thread. 0, or an error with *err; a file that cannot be opened is none, and is logged. */
int edge_log_start(struct edge_log **out, const struct edge_log_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* Takes what HAProxy has sent already, and waits until it is written. Questions must have been cancelled, and nobody
 * follow any more. Clears the pointer. NULL is ignored. */
void edge_log_stop(struct edge_log **log);

/* ---- questions ---- */

struct edge_log_ask;

/* Valid during the call. */
struct edge_log_answer {
    int rc; /* < 0: it failed, as *err says */
    const struct ht_errmsg *err;
    struct ht_slice text;                 /* as edge_log_search_step() or edge_logdb_stats() appends it */
    int64_t seen;                         /* where one who follows goes on */
    const struct edge_log_totals *totals; /* of a question for sums */
};

/* The question no longer exists. */
typedef void edge_log_done(void *ctx, const struct edge_log_answer *a);

/* done() is never called before these return. NULL: out of memory. */
struct edge_log_ask *edge_log_ask(struct edge_log *log, const struct edge_log_query *q, edge_log_done *done,
                                  void *ctx) HT_MUST_USE;
struct edge_log_ask *edge_log_ask_stats(struct edge_log *log, unsigned hours, edge_log_done *done,
                                        void *ctx) HT_MUST_USE;
/* done() is not called. Clears the pointer. NULL is ignored. */
void edge_log_cancel(struct edge_log_ask **ask);

/* ---- following ---- */

/* A member of its owner's structure. more() is called when rows have come. */
struct edge_log_follower {
    struct ht_list node;
    void (*more)(struct edge_log_follower *f);
};
void edge_log_follow(struct edge_log *log, struct edge_log_follower *f);
/* Harmless for one that is zero-initialised. */
void edge_log_unfollow(struct edge_log_follower *f);

unsigned edge_log_followers(const struct edge_log *log);

/* Names of parameters whose values are secret besides those of spec/haproxy.yaml, such as those of gates; they replace
 * the ones of the last call. In lower case. For lines that come from now on. 0 or HT_ENOMEM. */
int edge_log_secrets(struct edge_log *log, const char *const *names, size_t n) HT_MUST_USE;
void edge_log_count(struct edge_log *log, struct edge_log_counts *out);

#endif
