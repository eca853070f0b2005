/*
 * The file of the log: SQLite's, one row for each line, and sums by hour and service. It belongs to one thread, which
 * may wait for the disk. libsqlite3 is loaded when the first file is opened.
 *
 * What was committed survives the end of the process at any moment. The file is at most as large as the caller says,
 * and older rows make room for newer ones. A file that is damaged is set aside, and a new one begun.
 */
#ifndef HT_EDGE_LOGDB_H
#define HT_EDGE_LOGDB_H

#include "base/buf.h"
#include "base/err.h"
#include "edge/logline.h"

struct edge_logdb;

struct edge_logdb_config {
    const char *path;   /* borrowed during edge_logdb_open() */
    uint64_t max_bytes; /* of the file, at least EDGE_LOGDB_LEAST; its journal comes to that, some MiB */
    uint64_t max_age_ms;
};
#define EDGE_LOGDB_LEAST (1u << 20)

/* 0; HT_EINVAL: this system has no libsqlite3; HT_EIO, HT_ENOMEM; with *err. *set_aside: a damaged file was, with its
 * new name in *err. */
int edge_logdb_open(struct edge_logdb **out, const struct edge_logdb_config *cfg, bool *set_aside,
                    struct ht_errmsg *err) HT_MUST_USE;
/* Whether the file at `path` is another one by now, or none. */
bool edge_logdb_is_gone(const struct edge_logdb *db, const char *path);
/* What was not committed is lost. Clears the pointer. NULL is ignored. */
void edge_logdb_close(struct edge_logdb **db);

/*
 * Rows that were added since the last commit are kept together, or none of them is: any error takes them all back. 0;
 * HT_EAGAIN: another process has the file locked; HT_ESPACE: the disk is full; HT_EPROTO: the file is damaged and must
 * be opened anew; HT_EIO and HT_ENOMEM; with *err.
 */
int edge_logdb_add(struct edge_logdb *db, const struct edge_log_row *row, struct ht_errmsg *err) HT_MUST_USE;
int edge_logdb_commit(struct edge_logdb *db, struct ht_errmsg *err) HT_MUST_USE;
void edge_logdb_rollback(struct edge_logdb *db);
/* Deletes what is too old or too much, a part of it in each call, so that none takes long. True: there is more. Errors
 * are left for the next call. */
bool edge_logdb_trim(struct edge_logdb *db, int64_t now_ms);
/* The id of the last row; 0: there was none yet. Ids rise, and are not used twice. */
int64_t edge_logdb_last(const struct edge_logdb *db);

/* ---- reading ---- */

#define EDGE_LOG_MOST 1000           /* rows of an answer */
#define EDGE_LOG_FILTER 64           /* bytes of a filter's text, with its NUL */
#define EDGE_LOG_HOST 256            /* the same for a host */
#define EDGE_LOG_ANSWER (4u << 20)   /* an answer ends behind the row that passes it */
#define EDGE_LOG_EVENTS (256u << 10) /* the same for events, whose reader asks again */

/* Which rows are wanted. Zero-initialised it is all of them; `limit` must be set. */
struct edge_log_query {
    enum {
        EDGE_LOG_NEWEST_FIRST,
        EDGE_LOG_OLDEST_FIRST,
        EDGE_LOG_LAST /* the newest `limit` rows, the oldest of them first */
    } order;
    uint32_t limit;  /* 1 to EDGE_LOG_MOST */
    uint64_t offset; /* as many are left out before */
    int64_t after;   /* rows with larger ids alone */
    int kind;        /* of enum edge_log_kind, plus 1; 0: any */
    int level;       /* this one and worse ones */
    char method[EDGE_LOG_FILTER], service[EDGE_LOG_FILTER], container[EDGE_LOG_FILTER]; /* "": any */
    char host[EDGE_LOG_HOST], alias[EDGE_LOG_FILTER];
    bool events; /* server-sent events with ids, instead of members of a list */
};

/* A query under way. */
struct edge_log_search {
    struct edge_log_query q;
    bool counts;       /* backwards, to where the last rows begin */
    int64_t begins;    /* before the first of those that were found */
    int64_t at, until; /* ids (at, until] have not been looked at */
    int64_t seen; /* where one who follows goes on: all up to this id were looked at, or are older than the search */
    uint64_t left_out;
    uint32_t found;
};

void edge_log_search_begin(struct edge_logdb *db, struct edge_log_search *s, const struct edge_log_query *q);
/* Goes through the next few thousand rows. 1: the search is over; 0: there is more; or an error with *err. Appends rows
 * to *out: JSON objects with commas between them, or events. */
int edge_log_search_step(struct edge_logdb *db, struct edge_log_search *s, struct ht_buf *out,
                         struct ht_errmsg *err) HT_MUST_USE;

/* What the log is. Times are milliseconds since 1970. */
struct edge_log_totals {
    uint64_t rows, bytes;
    uint64_t oldest, newest; /* 0 without rows */
    uint64_t since;          /* from when on the sums are */
};

/* Fills in *totals, and appends JSON objects with commas between them: the sums of the last `hours`, for each service,
 * the busiest first, at most EDGE_LOG_MOST. 0, or an error with *err. */
int edge_logdb_stats(struct edge_logdb *db, int64_t now_ms, unsigned hours, struct edge_log_totals *totals,
                     struct ht_buf *out, struct ht_errmsg *err) HT_MUST_USE;

#endif
