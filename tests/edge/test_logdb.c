/* The file of the log: rows and sums, searches, its bounds, damage, a full disk, no memory. */
#include "base/mem.h"
#include "edge/logdb.h"
#include "support/tap.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW INT64_C(1796005834104)
#define HOUR INT64_C(3600000)
#define C "67e89abc123def456789abcd-890abcdef12345678901cdef"

static struct edge_logdb *db;
static char folder[64], path[80];
static struct ht_errmsg err;
static bool aside;

static int open_with(uint64_t max_bytes, uint64_t max_age_ms) {
    int rc = edge_logdb_open(
        &db, &(struct edge_logdb_config){.path = path, .max_bytes = max_bytes, .max_age_ms = max_age_ms}, &aside, &err);
    if (rc < 0)
        printf("# %s\n", err.text);
    return rc;
}

static void begin(void) {
    snprintf(folder, sizeof folder, "/tmp/ht-logdb-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/log.db", folder);
    CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, 100 * 24 * HOUR), HT_OK);
    CU_ASSERT_FALSE(aside);
}

static void end(void) {
    char line[128];
    edge_logdb_close(&db);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

/* ---- rows ---- */

static struct edge_log_row request(const char *host, const char *service, int status) {
    struct edge_log_row row;
    edge_log_say(&row, NOW,
                 status >= 500   ? EDGE_LOG_FAIL
                 : status >= 400 ? EDGE_LOG_WARN
                                 : EDGE_LOG_INFO,
                 (struct ht_slice){0});
    row.kind = EDGE_LOG_REQUEST;
    row.text[HAPROXY_LOG_HOST] = ht_slice_str(host);
    row.text[HAPROXY_LOG_SERVICE_NAME] = ht_slice_str(service);
    row.text[HAPROXY_LOG_CONTAINER] = ht_slice_str(service[0] ? C : "");
    row.text[HAPROXY_LOG_ADDRESS] = ht_slice_str("127.0.0.1");
    row.text[HAPROXY_LOG_METHOD] = ht_slice_str("GET");
    row.number[HAPROXY_LOG_STATUS] = status;
    row.number[HAPROXY_LOG_BYTES_IN] = 10;
    row.number[HAPROXY_LOG_BYTES_OUT] = 100;
    row.number[HAPROXY_LOG_TOTAL_MS] = status;
    return row;
}

static void add(const struct edge_log_row *row) {
    int rc = edge_logdb_add(db, row, &err);
    if (rc < 0)
        printf("# %s\n", err.text);
    CU_ASSERT_EQUAL_FATAL(rc, HT_OK);
}

static void commit(void) { CU_ASSERT_EQUAL_FATAL(edge_logdb_commit(db, &err), HT_OK); }

/* Rows whose url is their number, committed. */
static void add_many(unsigned from, unsigned to, size_t padding) {
    char url[3000];
    for (unsigned i = from; i <= to; i++) {
        struct edge_log_row row = request("a.example", i % 2 ? "exec" : "terminal", i % 10 ? 200 : 500);
        int n = snprintf(url, sizeof url, "/%u", i);
        memset(url + n, 'x', padding);
        row.text[HAPROXY_LOG_URL] = ht_slice_of(url, (size_t)n + padding);
        add(&row);
    }
    commit();
}

/* ---- answers ---- */

static struct ht_buf out;
static struct edge_log_search found;

static const char *search(const struct edge_log_query *q) {
    int rc;
    ht_buf_free(&out);
    edge_log_search_begin(db, &found, q);
    while ((rc = edge_log_search_step(db, &found, &out, &err)) == 0)
        continue;
    CU_ASSERT_EQUAL(rc, 1);
    CU_ASSERT_EQUAL(ht_buf_append(&out, "", 1), HT_OK);
    return (const char *)ht_buf_head(&out);
}

/* "3 2 1": the ids that are found, in their order. */
static void finds(const struct edge_log_query *q, const char *want) {
    char ids[512] = "";
    const char *text = search(q);
    for (const char *at = text; (at = strstr(at, "{\"id\":")); at++)
        snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%s%ld", ids[0] ? " " : "", atol(at + 6));
    if (strcmp(ids, want) != 0)
        printf("# found %s and not %s\n", ids, want);
    CU_ASSERT_STRING_EQUAL(ids, want);
    ht_buf_free(&out);
}

static void rows_come_back_as_they_are(void) {
    begin();
    struct edge_log_row row = request("a\"\\\x1b\xe2\x80\xae.example", "exec", 404);
    row.text[HAPROXY_LOG_URL] = ht_slice_of("/a\0b\xff", 5);
    row.number[HAPROXY_LOG_WAIT_MS] = 0;
    add(&row);
    commit();
    edge_log_say(&row, NOW + 1, EDGE_LOG_WARN, ht_slice_str("a word"));
    add(&row);
    commit();
    CU_ASSERT_EQUAL(edge_logdb_last(db), 2);
    CU_ASSERT_STRING_EQUAL(
        search(&(struct edge_log_query){.limit = 10}),
        "{\"id\":2,\"kind\":\"engine\",\"level\":\"warn\",\"time\":1796005834105,\"message\":\"a word\"},"
        "{\"id\":1,\"kind\":\"request\",\"level\":\"warn\",\"time\":1796005834104,\"host\":\"a\\\"\\\\\\u001b\\u202e."
        "example\",\"method\":\"GET\",\"url\":\"/"
        "a\\u0000b\xef\xbf\xbd\",\"status\":404,\"bytesIn\":10,\"bytesOut\":100,"
        "\"waitMs\":0,\"totalMs\":404,\"container\":\"" C "\",\"serviceName\":\"exec\",\"address\":\"127.0.0.1\"}");
    CU_ASSERT_STRING_EQUAL(search(&(struct edge_log_query){.limit = 1, .events = true}),
                           "id: 2\ndata: {\"id\":2,\"kind\":\"engine\",\"level\":\"warn\",\"time\":1796005834105,"
                           "\"message\":\"a word\"}\n\n");
    ht_buf_free(&out);
    end();
}

static void searches_find_what_is_asked_for(void) {
    begin();
    add_many(1, 30, 0);
    finds(&(struct edge_log_query){.limit = 3}, "30 29 28");
    finds(&(struct edge_log_query){.limit = 3, .offset = 2}, "28 27 26");
    finds(&(struct edge_log_query){.limit = 3, .offset = 28}, "2 1");
    finds(&(struct edge_log_query){.limit = 3, .offset = 30}, "");
    finds(&(struct edge_log_query){.limit = 3, .after = 28}, "30 29");
    finds(&(struct edge_log_query){.limit = 3, .order = EDGE_LOG_OLDEST_FIRST}, "1 2 3");
    CU_ASSERT_EQUAL(found.seen, 3);
    finds(&(struct edge_log_query){.limit = 3, .order = EDGE_LOG_OLDEST_FIRST, .after = 28}, "29 30");
    CU_ASSERT_EQUAL(found.seen, 30);
    finds(&(struct edge_log_query){.limit = 3, .order = EDGE_LOG_OLDEST_FIRST, .after = 30}, "");
    finds(&(struct edge_log_query){.limit = 3, .order = EDGE_LOG_OLDEST_FIRST, .after = 31}, "");
    CU_ASSERT_EQUAL(found.seen, 30);
    finds(&(struct edge_log_query){.limit = 3, .order = EDGE_LOG_LAST}, "28 29 30");
    finds(&(struct edge_log_query){.limit = 3, .order = EDGE_LOG_LAST, .level = EDGE_LOG_FAIL}, "10 20 30");
    finds(&(struct edge_log_query){.limit = 2, .order = EDGE_LOG_LAST, .level = EDGE_LOG_FAIL, .offset = 1}, "10 20");
    finds(&(struct edge_log_query){.limit = 100, .order = EDGE_LOG_LAST, .after = 28}, "29 30");
    finds(&(struct edge_log_query){.limit = 9, .order = EDGE_LOG_LAST, .after = 30}, "");
    finds(&(struct edge_log_query){.limit = 9, .level = EDGE_LOG_WARN}, "30 20 10");
    finds(&(struct edge_log_query){.limit = 9, .kind = EDGE_LOG_ENGINE + 1}, "");
    finds(&(struct edge_log_query){.limit = 2, .kind = EDGE_LOG_REQUEST + 1}, "30 29");
    finds(&(struct edge_log_query){.limit = 2, .service = "exec"}, "29 27");
    finds(&(struct edge_log_query){.limit = 2, .service = "exec' OR 1=1 --"}, "");
    finds(&(struct edge_log_query){.limit = 2, .method = "POST"}, "");
    finds(&(struct edge_log_query){.limit = 1, .method = "GET", .host = "a.example", .container = C}, "30");
    finds(&(struct edge_log_query){.limit = 1, .container = "890abcdef12345678901cdef"}, "30");
    finds(&(struct edge_log_query){.limit = 1, .container = "67e89abc123def456789abcd"}, "");
    finds(&(struct edge_log_query){.limit = 1, .host = "b.example"}, "");
    end();
}

static void searches_go_on_through_many_rows(void) {
    begin();
    add_many(1, 9500, 0);
    struct edge_log_row row = request("rare.example", "", 200);
    row.text[HAPROXY_LOG_METHOD] = ht_slice_str("PUT");
    add(&row);
    commit();
    add_many(1, 9500, 0);
    finds(&(struct edge_log_query){.limit = 2, .method = "PUT"}, "9501");
    finds(&(struct edge_log_query){.limit = 2, .order = EDGE_LOG_OLDEST_FIRST, .method = "PUT"}, "9501");
    CU_ASSERT_EQUAL(found.seen, 19001);
    finds(&(struct edge_log_query){.limit = 2, .order = EDGE_LOG_LAST, .method = "PUT"}, "9501");
    finds(&(struct edge_log_query){.limit = 1, .offset = 19000}, "1");
    end();
}

static void an_answer_is_bounded(void) {
    begin();
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL_FATAL(open_with(32 << 20, 100 * 24 * HOUR), HT_OK);
    add_many(1, 2500, 2000);
    const char *text = search(&(struct edge_log_query){.limit = EDGE_LOG_MOST, .order = EDGE_LOG_OLDEST_FIRST});
    CU_ASSERT_EQUAL(found.found, EDGE_LOG_MOST);
    CU_ASSERT_TRUE(strlen(text) < EDGE_LOG_ANSWER + 20000);
    ht_buf_free(&out);
    end();
}

/* ---- sums ---- */

static struct edge_log_totals totals;

static void stats(unsigned hours, int64_t now, const char *want) {
    ht_buf_free(&out);
    CU_ASSERT_EQUAL(edge_logdb_stats(db, now, hours, &totals, &out, &err), HT_OK);
    CU_ASSERT_EQUAL(ht_buf_append(&out, "", 1), HT_OK);
    const char *got = (const char *)ht_buf_head(&out);
    if (strcmp(got, want) != 0)
        printf("# %s\n", got);
    CU_ASSERT_STRING_EQUAL(got, want);
    ht_buf_free(&out);
}

static void sums_are_kept_for_what_leads_somewhere(void) {
    begin();
    struct edge_log_row row = request("me-3000.edge.localhost", "", 200);
    add(&row);
    row = request("x", "exec", 200);
    add(&row);
    row = request("y", "exec", 503);
    row.kind = EDGE_LOG_REFUSED;
    row.text[HAPROXY_LOG_REASON] = ht_slice_str("off");
    add(&row);
    row.number[HAPROXY_LOG_STATUS] = 404; /* hosts, containers and services that are not there */
    row.text[HAPROXY_LOG_REASON] = ht_slice_str("service");
    add(&row);
    row = request("nowhere", "", 404);
    row.text[HAPROXY_LOG_ADDRESS] = (struct ht_slice){0};
    add(&row);
    edge_log_say(&row, NOW, EDGE_LOG_INFO, ht_slice_str("x"));
    add(&row);
    commit();
    stats(1, NOW,
          "{\"container\":\"" C "\",\"serviceName\":\"exec\",\"requests\":2,\"refused\":1,\"warnings\":0,"
          "\"errors\":1,\"bytesIn\":20,\"bytesOut\":200,\"totalMs\":703,\"longestMs\":503},"
          "{\"host\":\"me-3000.edge.localhost\",\"requests\":1,\"refused\":0,\"warnings\":0,\"errors\":0,"
          "\"bytesIn\":10,\"bytesOut\":100,\"totalMs\":200,\"longestMs\":200}");
    CU_ASSERT_TRUE(totals.rows == 6 && totals.oldest == NOW && totals.newest == NOW && totals.bytes > 4096);
    CU_ASSERT_EQUAL(totals.since, NOW / HOUR * HOUR);
    stats(1, NOW + HOUR, "");
    row = request("me-3000.edge.localhost", "", 404);
    row.number[HAPROXY_LOG_TIME] = NOW + HOUR;
    row.number[HAPROXY_LOG_BYTES_IN] = EDGE_LOG_NONE;
    add(&row);
    commit();
    stats(1, NOW + HOUR,
          "{\"host\":\"me-3000.edge.localhost\",\"requests\":1,\"refused\":0,\"warnings\":1,\"errors\":"
          "0,\"bytesIn\":0,\"bytesOut\":100,\"totalMs\":404,\"longestMs\":404}");
    end();
}

/* ---- transactions ---- */

static void what_was_not_committed_is_not_there(void) {
    begin();
    add_many(1, 3, 0);
    struct edge_log_row row = request("a", "", 200);
    add(&row);
    edge_logdb_rollback(db);
    finds(&(struct edge_log_query){.limit = 9}, "3 2 1");
    add(&row);
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, 100 * 24 * HOUR), HT_OK);
    finds(&(struct edge_log_query){.limit = 9}, "3 2 1");
    end();
}

/* Killed at any moment: what was committed is there, whole, and nothing after a gap. */
static void a_kill_loses_nothing_that_was_committed(void) {
    begin();
    edge_logdb_close(&db);
    int64_t had = 0;
    for (int round = 0; round < 12; round++) {
        int to[2];
        int64_t committed = had;
        CU_ASSERT_EQUAL_FATAL(pipe(to), 0);
        pid_t child = fork();
        if (child == 0) {
            close(to[0]);
            if (open_with(8 << 20, 100 * 24 * HOUR) < 0)
                _exit(1);
            for (;;) {
                for (int i = 0; i < 50; i++) {
                    struct edge_log_row row = request("a", "exec", 200);
                    if (edge_logdb_add(db, &row, &err) < 0)
                        _exit(2);
                }
                int64_t last = edge_logdb_commit(db, &err) < 0 ? -1 : edge_logdb_last(db);
                if (write(to[1], &last, sizeof last) != sizeof last)
                    _exit(3);
            }
        }
        close(to[1]);
        for (int i = 0; i < 2 + round; i++)
            CU_ASSERT_EQUAL(read(to[0], &committed, sizeof committed), sizeof committed);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        for (int64_t more; read(to[0], &more, sizeof more) == sizeof more;)
            committed = more;
        close(to[0]);
        CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, 100 * 24 * HOUR), HT_OK);
        CU_ASSERT_FALSE(aside);
        had = edge_logdb_last(db);
        CU_ASSERT_TRUE(had >= committed && had % 50 == 0);
        edge_logdb_close(&db);
    }
    end();
}

/* ---- bounds ---- */

static off_t size_of(const char *more) {
    struct stat st;
    char name[128];
    snprintf(name, sizeof name, "%s%s", path, more);
    return stat(name, &st) == 0 ? st.st_size : 0;
}

static void trim_all(int64_t now) {
    for (int i = 0; edge_logdb_trim(db, now); i++)
        CU_ASSERT_TRUE_FATAL(i < 1000);
}

static void the_file_is_no_larger_than_it_may_be(void) {
    begin();
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL_FATAL(open_with(2 << 20, 100 * 24 * HOUR), HT_OK);
    for (unsigned i = 0; i < 60; i++) {
        add_many(1 + 100 * i, 100 + 100 * i, 1000);
        trim_all(NOW);
    }
    CU_ASSERT_TRUE(edge_logdb_last(db) == 6000);
    finds(&(struct edge_log_query){.limit = 2}, "6000 5999");
    CU_ASSERT_TRUE(size_of("") <= 2 << 20);
    CU_ASSERT_TRUE(size_of("-wal") <= 6 << 20);
    int64_t left =
        6000 -
        (int64_t)strtoll(search(&(struct edge_log_query){.limit = 1, .order = EDGE_LOG_OLDEST_FIRST}) + 6, NULL, 10);
    CU_ASSERT_TRUE(left > 100 && left < 2000);
    ht_buf_free(&out);
    edge_logdb_close(&db); /* a smaller bound holds for a file that is there */
    CU_ASSERT_EQUAL_FATAL(open_with(1 << 20, 100 * 24 * HOUR), HT_OK);
    trim_all(NOW);
    edge_logdb_close(&db);
    CU_ASSERT_TRUE(size_of("") <= 1 << 20);
    CU_ASSERT_EQUAL_FATAL(open_with(1 << 20, 100 * 24 * HOUR), HT_OK);
    add_many(1, 1, 0);
    finds(&(struct edge_log_query){.limit = 1}, "6001");
    end();
}

static void a_batch_that_does_not_fit_is_refused_as_a_full_disk_is(void) {
    begin();
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL_FATAL(open_with(1 << 20, 100 * 24 * HOUR), HT_OK);
    add_many(1, 10, 0);
    char url[2000];
    memset(url, 'x', sizeof url);
    struct edge_log_row row = request("a", "", 200);
    row.text[HAPROXY_LOG_URL] = ht_slice_of(url, sizeof url);
    int rc = HT_OK;
    for (int i = 0; i < 2000 && rc == HT_OK; i++)
        rc = edge_logdb_add(db, &row, &err);
    CU_ASSERT_EQUAL(rc, HT_ESPACE);
    CU_ASSERT_EQUAL(edge_logdb_commit(db, &err), HT_OK); /* there is nothing left of it */
    finds(&(struct edge_log_query){.limit = 2}, "10 9");
    add_many(11, 12, 0);
    finds(&(struct edge_log_query){.limit = 2}, "12 11");
    end();
}

static void old_rows_go(void) {
    begin();
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, 2 * HOUR), HT_OK);
    add_many(1, 5000, 0);
    trim_all(NOW + 2 * HOUR);
    finds(&(struct edge_log_query){.limit = 1, .order = EDGE_LOG_OLDEST_FIRST}, "1");
    struct edge_log_row row = request("a", "", 200);
    row.number[HAPROXY_LOG_TIME] = NOW + HOUR;
    add(&row);
    commit();
    trim_all(NOW + 2 * HOUR + 1);
    finds(&(struct edge_log_query){.limit = 5}, "5001");
    stats(100, NOW + 2 * HOUR + 1,
          "{\"container\":\"" C
          "\",\"serviceName\":\"exec\",\"requests\":2500,\"refused\":0,\"warnings\":0,\"errors\":0,\"bytesIn\":25000,"
          "\"bytesOut\":250000,\"totalMs\":500000,\"longestMs\":200},{\"container\":\"" C
          "\",\"serviceName\":\"terminal\",\"requests\":2500,\"refused\":0,\"warnings\":0,"
          "\"errors\":500,\"bytesIn\":25000,\"bytesOut\":250000,\"totalMs\":650000,\"longestMs\":500},{\"host\":\"a\","
          "\"requests\":1,\"refused\":0,\"warnings\":0,\"errors\":0,\"bytesIn\":10,"
          "\"bytesOut\":100,\"totalMs\":200,\"longestMs\":200}");
    trim_all(NOW + 5 * HOUR);
    finds(&(struct edge_log_query){.limit = 5}, "");
    stats(100, NOW + 5 * HOUR, "");
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, 2 * HOUR), HT_OK);
    add_many(1, 1, 0); /* ids are not used twice */
    finds(&(struct edge_log_query){.limit = 5}, "5002");
    end();
}

/* ---- what may go wrong ---- */

static void write_file(const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void a_damaged_file_is_set_aside(void) {
    begin();
    add_many(1, 3, 0);
    edge_logdb_close(&db);
    write_file(
        "this is no database, and it is longer than the head of one, which has a hundred bytes, or so it is said.\n");
    CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, HOUR), HT_OK);
    CU_ASSERT_TRUE(aside);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "log.db.damaged"));
    CU_ASSERT_TRUE(size_of(".damaged") > 0);
    add_many(1, 2, 0);
    finds(&(struct edge_log_query){.limit = 9}, "2 1");
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL(truncate(path, 4096), 0); /* only its first page is left */
    if (open_with(8 << 20, HOUR) == HT_OK) {
        struct edge_log_row row = request("a", "", 200);
        int rc = edge_logdb_add(db, &row, &err);
        CU_ASSERT_TRUE(aside || rc == HT_EPROTO);
    }
    end();
}

static void a_file_that_cannot_be_opened_is_an_error(void) {
    struct edge_logdb *other;
    begin();
    const struct edge_logdb_config cfg = {.path = "/proc/nowhere/log.db", .max_bytes = 8 << 20};
    CU_ASSERT_EQUAL(edge_logdb_open(&other, &cfg, &aside, &err), HT_EIO);
    CU_ASSERT_PTR_NULL(other);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/proc/nowhere/log.db"));
    struct stat st;
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    end();
}

static void a_locked_file_is_tried_again(void) {
    struct edge_logdb *mine;
    begin();
    mine = db;
    CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, HOUR), HT_OK); /* another one */
    struct edge_log_row row = request("a", "", 200);
    add(&row);
    CU_ASSERT_EQUAL(edge_logdb_add(mine, &row, &err), HT_EAGAIN);
    commit();
    CU_ASSERT_EQUAL(edge_logdb_add(mine, &row, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_logdb_commit(mine, &err), HT_OK);
    edge_logdb_close(&mine);
    end();
}

/* A disk that takes no more: files may not grow. */
static void a_full_disk_loses_a_batch_and_no_more(void) {
    begin();
    add_many(1, 10, 0);
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit l = {.rlim_cur = 200000, .rlim_max = RLIM_INFINITY};
        signal(SIGXFSZ, SIG_IGN);
        struct edge_log_row row = request("a", "", 200);
        char url[2000];
        memset(url, 'x', sizeof url);
        row.text[HAPROXY_LOG_URL] = ht_slice_of(url, sizeof url);
        setrlimit(RLIMIT_FSIZE, &l);
        int rc = HT_OK;
        for (int i = 0; i < 500 && rc == HT_OK; i++) {
            rc = edge_logdb_add(db, &row, &err);
            if (rc == HT_OK && i % 10 == 9)
                rc = edge_logdb_commit(db, &err);
        }
        if (rc != HT_EIO && rc != HT_ESPACE)
            _exit(1);
        l.rlim_cur = RLIM_INFINITY;
        setrlimit(RLIMIT_FSIZE, &l);
        if (edge_logdb_add(db, &row, &err) < 0 || edge_logdb_commit(db, &err) < 0)
            _exit(2);
        _exit(edge_logdb_last(db) > 10 ? 0 : 3);
    }
    waitpid(child, &status, 0);
    CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        printf("# status %d\n", WEXITSTATUS(status));
    edge_logdb_close(&db);
    CU_ASSERT_EQUAL_FATAL(open_with(8 << 20, 100 * 24 * HOUR), HT_OK);
    CU_ASSERT_FALSE(aside);
    end();
}

static void no_allocation_is_taken_for_granted(void) {
    begin();
    add_many(1, 40, 100);
    for (int what = 0; what < 3; what++) {
        for (long i = 0; i < 1000; i++) {
            ht_buf_free(&out);
            ht_mem_fail_at(i);
            int rc = HT_OK;
            if (what == 0) {
                edge_log_search_begin(db, &found, &(struct edge_log_query){.limit = 100});
                while ((rc = edge_log_search_step(db, &found, &out, &err)) == 0)
                    continue;
            } else if (what == 1) {
                rc = edge_logdb_stats(db, NOW, 1, &totals, &out, &err);
            } else {
                edge_logdb_close(&db);
                rc = edge_logdb_open(
                    &db, &(struct edge_logdb_config){.path = path, .max_bytes = 8 << 20, .max_age_ms = HOUR}, &aside,
                    &err);
            }
            bool failed = !ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            CU_ASSERT_TRUE(failed ? rc == HT_ENOMEM : rc >= 0);
            if (!failed)
                break;
        }
    }
    ht_buf_free(&out);
    finds(&(struct edge_log_query){.limit = 2}, "40 39");
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"rows come back as they are", rows_come_back_as_they_are},
        {"searches find what is asked for", searches_find_what_is_asked_for},
        {"searches go on through many rows", searches_go_on_through_many_rows},
        {"an answer is bounded", an_answer_is_bounded},
        {"sums are kept for what leads somewhere", sums_are_kept_for_what_leads_somewhere},
        {"what was not committed is not there", what_was_not_committed_is_not_there},
        {"a kill loses nothing that was committed", a_kill_loses_nothing_that_was_committed},
        {"the file is no larger than it may be", the_file_is_no_larger_than_it_may_be},
        {"a batch that does not fit is refused as a full disk is",
         a_batch_that_does_not_fit_is_refused_as_a_full_disk_is},
        {"old rows go", old_rows_go},
        {"a damaged file is set aside", a_damaged_file_is_set_aside},
        {"a file that cannot be opened is an error", a_file_that_cannot_be_opened_is_an_error},
        {"a locked file is tried again", a_locked_file_is_tried_again},
        {"a full disk loses a batch and no more", a_full_disk_loses_a_batch_and_no_more},
        {"no allocation is taken for granted", no_allocation_is_taken_for_granted},
        {NULL, NULL},
    };
    return tap_main("edge: the log's file", tests);
}
