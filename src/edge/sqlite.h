/* The functions of libsqlite3, which is loaded when the first file is opened. */
#ifndef HT_EDGE_SQLITE_H
#define HT_EDGE_SQLITE_H

#include "base/library.h"

#include <sqlite3.h>

#define SQLITE_FUNCTIONS(X)                                                                                            \
    X(sqlite3_open_v2)                                                                                                 \
    X(sqlite3_close_v2)                                                                                                \
    X(sqlite3_exec)                                                                                                    \
    X(sqlite3_prepare_v2)                                                                                              \
    X(sqlite3_finalize)                                                                                                \
    X(sqlite3_reset)                                                                                                   \
    X(sqlite3_step)                                                                                                    \
    X(sqlite3_bind_int64)                                                                                              \
    X(sqlite3_bind_null)                                                                                               \
    X(sqlite3_bind_text)                                                                                               \
    X(sqlite3_column_bytes)                                                                                            \
    X(sqlite3_column_int64)                                                                                            \
    X(sqlite3_column_text)                                                                                             \
    X(sqlite3_column_type)                                                                                             \
    X(sqlite3_busy_timeout)                                                                                            \
    X(sqlite3_errcode)                                                                                                 \
    X(sqlite3_errmsg)                                                                                                  \
    X(sqlite3_get_autocommit)                                                                                          \
    X(sqlite3_last_insert_rowid)                                                                                       \
    X(sqlite3_changes)                                                                                                 \
    X(sqlite3_soft_heap_limit64)

struct edge_sqlite {
    SQLITE_FUNCTIONS(HT_LIBRARY_MEMBER)
};

/* NULL: this system has no libsqlite3. */
const struct edge_sqlite *edge_sqlite(void);
#define EDGE_SQLITE_MISSING "this system has no libsqlite3: install the package libsqlite3-0"

#endif
