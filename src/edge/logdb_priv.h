/* What the files of the log's file share. */
#ifndef HT_EDGE_LOGDB_PRIV_H
#define HT_EDGE_LOGDB_PRIV_H

#include "edge/logdb.h"
#include "edge/sqlite.h"

#include <sys/types.h>

enum edge_logdb_statement {
    EDGE_LOGDB_INSERT,
    EDGE_LOGDB_SUM,
    EDGE_LOGDB_FIRST,
    EDGE_LOGDB_LAST,
    EDGE_LOGDB_OLDEST,
    EDGE_LOGDB_NEWEST,
    EDGE_LOGDB_PAGES,
    EDGE_LOGDB_FREE,
    EDGE_LOGDB_DELETE,
    EDGE_LOGDB_FORGET,
    EDGE_LOGDB_STATS,
    EDGE_LOGDB_FORWARD,
    EDGE_LOGDB_BACKWARD,
    EDGE_LOGDB_STATEMENTS
};

struct edge_logdb {
    const struct edge_sqlite *sql;
    sqlite3 *file;
    sqlite3_stmt *s[EDGE_LOGDB_STATEMENTS];
    uint64_t max_bytes, max_age_ms;
    int64_t last, forgot;
    dev_t dev; /* of the file */
    ino_t ino;
};

/* SQLite's code as one of ours, with a text. */
int edge_logdb_fail(struct edge_logdb *db, int rc, struct ht_errmsg *err);
int edge_logdb_prepare(struct edge_logdb *db, const char *sql, sqlite3_stmt **out, struct ht_errmsg *err) HT_MUST_USE;
int64_t edge_logdb_first(struct edge_logdb *db); /* 0: there is no row */
uint64_t edge_logdb_bytes(struct edge_logdb *db);

#endif
