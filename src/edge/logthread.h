/*
 * The thread of the log: it reads lines, writes rows, searches, and is the only one that waits for the disk. Lines
 * gather for EDGE_LOGTHREAD_GATHER_MS and are then committed together.
 *
 * When rows cannot be written, their lines are lost and counted, and the owner is told once, at most each minute; and
 * once more when they can be written again. A row says how many they were. Nobody waits for the thread but
 * edge_logthread_stop().
 */
#ifndef HT_EDGE_LOGTHREAD_H
#define HT_EDGE_LOGTHREAD_H

#include "base/list.h"
#include "base/log.h"
#include "edge/logdb.h"

#define EDGE_LOGTHREAD_GATHER_MS 100u
#define EDGE_LOGTHREAD_QUEUE (8u << 20) /* bytes of lines that wait; the owner takes no more then */

struct edge_logthread;

struct edge_logthread_config {
    const char *path; /* of the file; copied, as all here */
    uint64_t max_bytes, max_age_ms;
    bool mask_addresses;
};

struct edge_log_counts {
    uint64_t written, lost, malformed;
    uint64_t lost_before; /* of those lost, lines that HAProxy had no room for */
    int64_t last;         /* the id of the last row that was committed */
};

/* A question, and its answer. The owner's until it is asked, and again when it comes back by edge_logthread_take(). */
struct edge_logthread_ask {
    struct ht_list node;
    bool stats; /* sums of the last `hours`, and not rows */
    unsigned hours;
    struct edge_log_query query;
    /* The answer: */
    int rc;
    struct ht_errmsg err; /* with rc < 0 */
    struct ht_buf out;
    int64_t seen; /* as in struct edge_log_search */
    struct edge_log_totals totals;
    struct edge_log_search search;
    bool begun;
    bool cancelled; /* with the thread's lock held */
};

/* What the owner is to log. */
struct edge_logthread_note {
    struct ht_list node;
    enum ht_log_level level;
    struct ht_errmsg text;
};

/* 0; HT_ENOMEM or HT_EFDS with *err. A file that cannot be opened is no error here: a note says so. */
int edge_logthread_start(struct edge_logthread **out, const struct edge_logthread_config *cfg,
                         struct ht_errmsg *err) HT_MUST_USE;
/* Writes what waits, and ends the thread. Questions without an answer are freed. Clears the pointer. NULL is ignored.
 */
void edge_logthread_stop(struct edge_logthread **t);

/* Polls readable when there is something to take, or lines have been written. */
int edge_logthread_fd(const struct edge_logthread *t);
/* Whole lines with their octet counts, which are the thread's from now on, and *lines is empty. */
int edge_logthread_lines(struct edge_logthread *t, struct ht_buf *lines) HT_MUST_USE;
/* Whether there is room for more lines: false from EDGE_LOGTHREAD_QUEUE on, true again from half of it on. */
bool edge_logthread_has_room(struct edge_logthread *t);
void edge_logthread_ask(struct edge_logthread *t, struct edge_logthread_ask *ask);
/* Nobody waits for the answer of one that was asked, which comes all the same, soon. */
void edge_logthread_cancel(struct edge_logthread *t, struct edge_logthread_ask *ask);
/* Further names of parameters whose values are masked; copied. 0 or HT_ENOMEM: nothing has changed. */
int edge_logthread_secrets(struct edge_logthread *t, const char *const *names, size_t n) HT_MUST_USE;
/* Moves answered questions and notes to the lists, which are initialised; makes the descriptor quiet. */
void edge_logthread_take(struct edge_logthread *t, struct ht_list *asks, struct ht_list *notes);
void edge_logthread_count(struct edge_logthread *t, struct edge_log_counts *out);
void edge_logthread_ask_free(struct edge_logthread_ask **ask);

#endif
