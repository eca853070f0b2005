#include "edge/logdb_priv.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define CACHE_KIB 2048
#define HEAP_MAX (16 << 20)
#define JOURNAL_MAX (4 << 20)
#define BUSY_MS 200    /* another process that reads the file holds it no longer than a moment */
#define TRIM_ROWS 2000 /* most that one call of trim() deletes */
#define TRIM_PAGES 256 /* that it gives back to the disk */
#define HOUR_MS 3600000

/* ---- the library ---- */

const struct edge_sqlite *edge_sqlite(void) {
    static struct edge_sqlite functions;
#define ROW(f) HT_LIBRARY_FUNCTION(functions, f)
    static const struct ht_library_function rows[] = {SQLITE_FUNCTIONS(ROW)};
    static struct ht_library library = {{"libsqlite3.so.0"}, rows, HT_ARRAY_LEN(rows), HT_LIBRARY_UNKNOWN};
    return ht_library_need(&library) ? &functions : NULL;
}

int edge_logdb_fail(struct edge_logdb *db, int rc, struct ht_errmsg *err) {
    const char *text = db->sql->sqlite3_errmsg(db->file);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ht_fail(err, HT_EAGAIN, "another process has the file locked");
    case SQLITE_FULL:
        return ht_fail(err, HT_ESPACE, "no room: %s", text);
    case SQLITE_NOMEM:
        return ht_fail(err, HT_ENOMEM, "out of memory");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ht_fail(err, HT_EPROTO, "the file is damaged: %s", text);
    default:
        return ht_fail(err, HT_EIO, "%s", text);
    }
}

static int run(struct edge_logdb *db, const char *sql, struct ht_errmsg *err) {
    int rc = db->sql->sqlite3_exec(db->file, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? HT_OK : edge_logdb_fail(db, rc, err);
}

int edge_logdb_prepare(struct edge_logdb *db, const char *sql, sqlite3_stmt **out, struct ht_errmsg *err) {
    int rc = db->sql->sqlite3_prepare_v2(db->file, sql, -1, out, NULL);
    return rc == SQLITE_OK ? HT_OK : edge_logdb_fail(db, rc, err);
}

/* The one number that a statement gives; `none` when it gives none. */
static int64_t number(struct edge_logdb *db, sqlite3_stmt *s, int64_t none) {
    int rc = db->sql->sqlite3_step(s);
    int64_t n = rc == SQLITE_ROW && db->sql->sqlite3_column_type(s, 0) == SQLITE_INTEGER
                    ? db->sql->sqlite3_column_int64(s, 0)
                    : none;
    db->sql->sqlite3_reset(s);
    return n;
}

int64_t edge_logdb_first(struct edge_logdb *db) { return number(db, db->s[EDGE_LOGDB_FIRST], 0); }
int64_t edge_logdb_last(const struct edge_logdb *db) { return db->last; }

uint64_t edge_logdb_bytes(struct edge_logdb *db) {
    int64_t pages = number(db, db->s[EDGE_LOGDB_PAGES], 0);
    return (uint64_t)ht_max64((uint64_t)pages, 0) * PAGE;
}

/* ---- opening ---- */

static int has_column(struct edge_logdb *db, const char *name, struct ht_errmsg *err) {
    char sql[128];
    sqlite3_stmt *s = NULL;
    snprintf(sql, sizeof sql, "SELECT 1 FROM pragma_table_info('log') WHERE name = '%s'", name);
    int rc = edge_logdb_prepare(db, sql, &s, err);
    if (rc < 0)
        return rc;
    rc = (int)number(db, s, 0);
    db->sql->sqlite3_finalize(s);
    return rc;
}

/* A file of an older version lacks columns. */
static int make_tables(struct edge_logdb *db, struct ht_errmsg *err) {
    char sql[128];
    int rc = run(db,
                 "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, level "
                 "INTEGER NOT NULL);"
                 "CREATE TABLE IF NOT EXISTS sums (hour INTEGER, container TEXT, service TEXT, host TEXT, requests "
                 "INTEGER, refused INTEGER, warnings INTEGER, errors INTEGER, bytes_in INTEGER, bytes_out INTEGER, ms "
                 "INTEGER, ms_most INTEGER, PRIMARY KEY (hour, container, service, host)) WITHOUT ROWID",
                 err);
    for (size_t i = 0; rc == HT_OK && i < HAPROXY_LOG_FIELDS; i++) {
        int there = has_column(db, haproxy_log[i].name, err);
        snprintf(sql, sizeof sql, "ALTER TABLE log ADD COLUMN \"%s\" %s", haproxy_log[i].name,
                 haproxy_log[i].number ? "INTEGER" : "TEXT");
        rc = there < 0 ? there : there ? HT_OK : run(db, sql, err);
    }
    return rc;
}

/* "INSERT INTO log (kind, level, "time", ...) VALUES (?, ?, ?, ...)" and the like: `each` for each field. */
static void for_fields(char *out, size_t cap, const char *begin, const char *each, const char *end) {
    size_t n = (size_t)snprintf(out, cap, "%s", begin);
    for (size_t i = 0; i < HAPROXY_LOG_FIELDS; i++)
        n += (size_t)snprintf(out + n, cap - n, each, haproxy_log[i].name);
    snprintf(out + n, cap - n, "%s", end);
}

static int prepare_all(struct edge_logdb *db, struct ht_errmsg *err) {
    static const char *const texts[EDGE_LOGDB_STATEMENTS] = {
        [EDGE_LOGDB_SUM] =
            "INSERT INTO sums VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?10) ON CONFLICT DO UPDATE SET "
            "requests = requests + 1, refused = refused + excluded.refused, warnings = warnings + excluded.warnings, "
            "errors = errors + excluded.errors, bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + "
            "excluded.bytes_out, ms = ms + excluded.ms, ms_most = max(ms_most, excluded.ms_most)",
        [EDGE_LOGDB_FIRST] = "SELECT min(id) FROM log",
        [EDGE_LOGDB_LAST] = "SELECT seq FROM sqlite_sequence WHERE name = 'log'",
        [EDGE_LOGDB_OLDEST] = "SELECT \"time\" FROM log ORDER BY id LIMIT 1",
        [EDGE_LOGDB_NEWEST] = "SELECT \"time\" FROM log ORDER BY id DESC LIMIT 1",
        [EDGE_LOGDB_PAGES] = "PRAGMA page_count",
        [EDGE_LOGDB_FREE] = "PRAGMA freelist_count",
        [EDGE_LOGDB_DELETE] = "DELETE FROM log WHERE id <= ? AND \"time\" < ?",
        [EDGE_LOGDB_FORGET] = "DELETE FROM sums WHERE hour < ?",
        [EDGE_LOGDB_STATS] =
            "SELECT container, service, host, sum(requests) AS n, sum(refused), sum(warnings), sum(errors), "
            "sum(bytes_in), sum(bytes_out), sum(ms), max(ms_most) FROM sums WHERE hour >= ? GROUP BY 1, 2, 3 ORDER BY "
            "n DESC, 1, 2, 3 LIMIT ?",
    };
#define WANTED                                                                                                         \
    " FROM log WHERE id > ? AND id <= ? AND (?3 < 0 OR kind = ?3) AND level >= ? AND (?5 = '' OR method = ?5) AND "    \
    "(?6 = '' OR serviceName = ?6) AND (?7 = '' OR container = ?7 OR substr(container, 26) = ?7) AND (?8 = '' OR "     \
    "host = ?8) AND (?9 = '' OR alias = ?9) ORDER BY id"
    char sql[4096], marks[HAPROXY_LOG_FIELDS * 3 + 16];
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < EDGE_LOGDB_STATEMENTS; i++)
        if (texts[i])
            rc = edge_logdb_prepare(db, texts[i], &db->s[i], err);
    for_fields(marks, sizeof marks, ") VALUES (?, ?", ", ?", ")");
    for_fields(sql, sizeof sql, "INSERT INTO log (kind, level", ", \"%s\"", marks);
    if (rc == HT_OK)
        rc = edge_logdb_prepare(db, sql, &db->s[EDGE_LOGDB_INSERT], err);
    for_fields(sql, sizeof sql, "SELECT id, kind, level", ", \"%s\"", WANTED);
    if (rc == HT_OK)
        rc = edge_logdb_prepare(db, sql, &db->s[EDGE_LOGDB_FORWARD], err);
    for_fields(sql, sizeof sql, "SELECT id, kind, level", ", \"%s\"", WANTED " DESC");
    return rc == HT_OK ? edge_logdb_prepare(db, sql, &db->s[EDGE_LOGDB_BACKWARD], err) : rc;
}

static int set_bound(struct edge_logdb *db, struct ht_errmsg *err) {
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %llu", (unsigned long long)(db->max_bytes / PAGE));
    return run(db, sql, err);
}

static int open_file(struct edge_logdb *db, const char *path, struct ht_errmsg *err) {
    char settings[256];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "%s: %s", path, strerror(errno));
    struct stat st = {0};
    (void)fstat(fd, &st);
    db->dev = st.st_dev;
    db->ino = st.st_ino;
    close(fd);
    int rc = db->sql->sqlite3_open_v2(path, &db->file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (!db->file)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc != SQLITE_OK)
        return edge_logdb_fail(db, rc, err);
    (void)db->sql->sqlite3_busy_timeout(db->file, BUSY_MS);
    snprintf(settings, sizeof settings,
             "PRAGMA page_size = %u; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = "
             "NORMAL; PRAGMA journal_size_limit = %d; PRAGMA cache_size = -%d; PRAGMA temp_store = MEMORY",
             PAGE, JOURNAL_MAX, CACHE_KIB);
    rc = run(db, settings, err);
    if (rc == HT_OK)
        rc = make_tables(db, err);
    if (rc == HT_OK)
        rc = set_bound(db, err);
    if (rc == HT_OK)
        rc = prepare_all(db, err);
    if (rc == HT_OK)
        db->last = number(db, db->s[EDGE_LOGDB_LAST], 0);
    return rc;
}

static void close_file(struct edge_logdb *db) {
    for (size_t i = 0; i < EDGE_LOGDB_STATEMENTS; i++) {
        db->sql->sqlite3_finalize(db->s[i]);
        db->s[i] = NULL;
    }
    if (db->file)
        (void)db->sql->sqlite3_close_v2(db->file);
    db->file = NULL;
}

/* The last damaged file is kept for whoever wants to look at it. */
static bool set_file_aside(const char *path) {
    static const char *const more[] = {"-wal", "-shm"};
    char other[512];
    for (size_t i = 0; i < HT_ARRAY_LEN(more); i++) {
        snprintf(other, sizeof other, "%s%s", path, more[i]);
        (void)unlink(other);
    }
    snprintf(other, sizeof other, "%s.damaged", path);
    return rename(path, other) == 0;
}

int edge_logdb_open(struct edge_logdb **out, const struct edge_logdb_config *cfg, bool *set_aside,
                    struct ht_errmsg *err) {
    const struct edge_sqlite *sql = edge_sqlite();
    *out = NULL;
    *set_aside = false;
    if (!sql)
        return ht_fail(err, HT_EINVAL, EDGE_SQLITE_MISSING);
    struct edge_logdb *db = ht_calloc(1, sizeof *db);
    if (!db)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    db->sql = sql;
    db->max_bytes = cfg->max_bytes;
    db->max_age_ms = cfg->max_age_ms;
    (void)sql->sqlite3_soft_heap_limit64(HEAP_MAX);
    int rc = open_file(db, cfg->path, err);
    if (rc == HT_EPROTO) {
        close_file(db);
        *set_aside = set_file_aside(cfg->path);
        rc = *set_aside ? open_file(db, cfg->path, err) : rc;
        if (rc == HT_OK)
            ht_fail(err, rc, "%s.damaged", cfg->path);
    }
    if (rc < 0)
        edge_logdb_close(&db);
    *out = db;
    return rc;
}

bool edge_logdb_is_gone(const struct edge_logdb *db, const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? st.st_dev != db->dev || st.st_ino != db->ino : errno == ENOENT;
}

void edge_logdb_close(struct edge_logdb **dbp) {
    struct edge_logdb *db = *dbp;
    *dbp = NULL;
    if (!db)
        return;
    edge_logdb_rollback(db);
    close_file(db);
    ht_free(db);
}

/* ---- writing ---- */

static int step(struct edge_logdb *db, sqlite3_stmt *s, struct ht_errmsg *err) {
    int rc = db->sql->sqlite3_step(s);
    rc = rc == SQLITE_DONE || rc == SQLITE_ROW ? HT_OK : edge_logdb_fail(db, rc, err);
    db->sql->sqlite3_reset(s);
    return rc;
}

static void bind_number(struct edge_logdb *db, sqlite3_stmt *s, int at, int64_t n) {
    if (n == EDGE_LOG_NONE)
        (void)db->sql->sqlite3_bind_null(s, at);
    else
        (void)db->sql->sqlite3_bind_int64(s, at, n);
}

/* The text stays where it is until the statement was stepped. */
static void bind_text(struct edge_logdb *db, sqlite3_stmt *s, int at, struct ht_slice text) {
    (void)db->sql->sqlite3_bind_text(s, at, text.n ? text.p : "", (int)text.n, SQLITE_STATIC);
}

static int insert(struct edge_logdb *db, const struct edge_log_row *row, struct ht_errmsg *err) {
    sqlite3_stmt *s = db->s[EDGE_LOGDB_INSERT];
    bind_number(db, s, 1, row->kind);
    bind_number(db, s, 2, row->level);
    for (int i = 0; i < HAPROXY_LOG_FIELDS; i++)
        if (haproxy_log[i].number)
            bind_number(db, s, i + 3, row->number[i]);
        else if (row->text[i].n)
            bind_text(db, s, i + 3, row->text[i]);
        else
            (void)db->sql->sqlite3_bind_null(s, i + 3);
    return step(db, s, err);
}

/*
 * Only what leads somewhere has sums: containers, their services and hosts that are bound, and not what strangers ask
 * for. A number in the name, such as that of http-3000, is left out, as anybody may choose it.
 */
static bool has_sums(const struct edge_log_row *row) {
    int64_t status = row->number[HAPROXY_LOG_STATUS];
    bool nowhere = row->text[HAPROXY_LOG_REASON].n && (status == 400 || status == 404);
    return (row->kind == EDGE_LOG_REQUEST || row->kind == EDGE_LOG_REFUSED) && row->text[HAPROXY_LOG_ADDRESS].n &&
           !nowhere;
}

static int64_t at_least_0(int64_t n) { return n < 0 ? 0 : n; }

static int add_to_sums(struct edge_logdb *db, const struct edge_log_row *row, struct ht_errmsg *err) {
    sqlite3_stmt *s = db->s[EDGE_LOGDB_SUM];
    struct ht_slice container = row->text[HAPROXY_LOG_CONTAINER], none = ht_slice_of("", 0);
    bind_number(db, s, 1, row->number[HAPROXY_LOG_TIME] / HOUR_MS);
    bind_text(db, s, 2, container);
    bind_text(db, s, 3, row->text[HAPROXY_LOG_SERVICE_NAME]);
    bind_text(db, s, 4, container.n ? none : row->text[HAPROXY_LOG_HOST]);
    bind_number(db, s, 5, row->kind == EDGE_LOG_REFUSED);
    bind_number(db, s, 6, row->level == EDGE_LOG_WARN);
    bind_number(db, s, 7, row->level == EDGE_LOG_FAIL);
    bind_number(db, s, 8, at_least_0(row->number[HAPROXY_LOG_BYTES_IN]));
    bind_number(db, s, 9, at_least_0(row->number[HAPROXY_LOG_BYTES_OUT]));
    bind_number(db, s, 10, at_least_0(row->number[HAPROXY_LOG_TOTAL_MS]));
    return step(db, s, err);
}

int edge_logdb_add(struct edge_logdb *db, const struct edge_log_row *row, struct ht_errmsg *err) {
    int rc = db->sql->sqlite3_get_autocommit(db->file) ? run(db, "BEGIN IMMEDIATE", err) : HT_OK;
    if (rc == HT_OK)
        rc = insert(db, row, err);
    if (rc == HT_OK && has_sums(row))
        rc = add_to_sums(db, row, err);
    if (rc < 0)
        edge_logdb_rollback(db);
    return rc;
}

int edge_logdb_commit(struct edge_logdb *db, struct ht_errmsg *err) {
    if (db->sql->sqlite3_get_autocommit(db->file))
        return HT_OK;
    int64_t last = db->sql->sqlite3_last_insert_rowid(db->file);
    int rc = run(db, "COMMIT", err);
    if (rc < 0)
        edge_logdb_rollback(db);
    else
        db->last = last;
    return rc;
}

void edge_logdb_rollback(struct edge_logdb *db) {
    if (db->file && !db->sql->sqlite3_get_autocommit(db->file))
        (void)run(db, "ROLLBACK", NULL);
}

/* ---- bounds ---- */

static int delete_rows(struct edge_logdb *db, int64_t up_to, int64_t older_than) {
    sqlite3_stmt *s = db->s[EDGE_LOGDB_DELETE];
    bind_number(db, s, 1, up_to);
    bind_number(db, s, 2, older_than);
    return step(db, s, NULL) == HT_OK ? db->sql->sqlite3_changes(db->file) : 0;
}

static void forget_sums(struct edge_logdb *db, int64_t hour) {
    sqlite3_stmt *s = db->s[EDGE_LOGDB_FORGET];
    if (db->forgot == hour)
        return;
    bind_number(db, s, 1, hour);
    if (step(db, s, NULL) == HT_OK)
        db->forgot = hour;
}

bool edge_logdb_trim(struct edge_logdb *db, int64_t now_ms) {
    int64_t cutoff = now_ms - (int64_t)db->max_age_ms;
    uint64_t all = (uint64_t)number(db, db->s[EDGE_LOGDB_PAGES], 0),
             spare = (uint64_t)number(db, db->s[EDGE_LOGDB_FREE], 0);
    uint64_t most = db->max_bytes / PAGE, used = all > spare ? all - spare : 0;
    int64_t first = edge_logdb_first(db), rows = first ? db->last - first + 1 : 0;
    int64_t part = (int64_t)ht_min64((uint64_t)at_least_0(rows) / 16 + 1, TRIM_ROWS);
    int gone = 0;
    forget_sums(db, cutoff / HOUR_MS);
    if (first && used > most - most / 8) /* what is left of the last eighth is for the rows of the next commit */
        gone = delete_rows(db, first + part - 1, INT64_MAX);
    else if (first && number(db, db->s[EDGE_LOGDB_OLDEST], INT64_MAX) < cutoff)
        gone = delete_rows(db, first + TRIM_ROWS - 1, cutoff);
    if (gone == 0 && spare > TRIM_PAGES && (spare > all / 4 || all > most)) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", TRIM_PAGES);
        return run(db, sql, NULL) == HT_OK && set_bound(db, NULL) == HT_OK;
    }
    return gone > 0;
}
