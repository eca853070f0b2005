/* The log as a whole: lines at the socket become rows, questions are answered, who follows is told, nobody waits. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "edge/edge_priv.h"
#include "edge/log.h"
#include "support/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct io_loop *loop;
static struct edge_log *lg;
static char folder[64];
static int quiet;

static void start(void) {
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(
        edge_log_start(&lg,
                       &(struct edge_log_config){
                           .loop = loop, .folder = folder, .max_bytes = 64 << 20, .max_age_ms = UINT64_C(3600000) * 24},
                       &err),
        HT_OK);
}

static void begin(void) {
    struct ht_errmsg err;
    snprintf(folder, sizeof folder, "/tmp/ht-log-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ht_log_setup(quiet, HT_LOG_ERROR, HT_LOG_TEXT);
    loop = io_loop_create();
    start();
}

static void end(void) {
    char line[128];
    edge_log_stop(&lg);
    io_loop_destroy(&loop);
    ht_log_setup(2, HT_LOG_INFO, HT_LOG_TEXT);
    close(quiet);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void nothing(struct io_timer *t) { io_timer_set(t, 5); }

/* Turns the loop until cond. */
#define UNTIL(cond)                                                                                                    \
    do {                                                                                                               \
        struct io_timer tick;                                                                                          \
        io_timer_init(loop, &tick, nothing);                                                                           \
        io_timer_set(&tick, 5);                                                                                        \
        for (uint64_t until = ht_now_ms() + PATIENCE_MS; !(cond) && ht_now_ms() < until;)                              \
            io_loop_turn(loop, true);                                                                                  \
        io_timer_stop(&tick);                                                                                          \
        CU_ASSERT_TRUE_FATAL(cond);                                                                                    \
    } while (0)

static int dial(void) {
    char path[EDGE_PATH];
    struct io_addr a = io_addr_of_path(edge_path(folder, EDGE_LOG_SOCKET, path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&a.ss, a.len), 0);
    return fd;
}

/* Sends all of it while the loop turns; false: nobody takes any more. */
static bool feed_bytes(int fd, const char *p, size_t n, uint64_t patience_ms) {
    uint64_t until = ht_now_ms() + patience_ms;
    while (n && ht_now_ms() < until) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
            until = ht_now_ms() + patience_ms;
        }
        io_loop_turn(loop, false);
    }
    return n == 0;
}

static char frames[1 << 20];

/* Lines whose url is their number. */
static size_t make_lines(unsigned from, unsigned to) {
    size_t n = 0;
    for (unsigned i = from; i <= to; i++) {
        char line[128];
        int k = snprintf(line, sizeof line, "{\"url\":\"/%u\",\"status\":\"200\",\"method\":\"GET\"}", i);
        n += (size_t)snprintf(frames + n, sizeof frames - n, "%d %s", k, line);
    }
    return n;
}

static uint64_t written(void) {
    struct edge_log_counts c;
    edge_log_count(lg, &c);
    return c.written;
}

/* ---- questions ---- */

static struct {
    int calls, rc;
    int64_t seen;
    struct edge_log_totals totals;
    char text[8192];
} got;

static void on_answer(void *ctx, const struct edge_log_answer *a) {
    (void)ctx;
    got.calls++;
    got.rc = a->rc;
    got.seen = a->seen;
    got.totals = *a->totals;
    snprintf(got.text, sizeof got.text, "%.*s", HT_SLICE_ARG(a->rc < 0 ? ht_slice_str(a->err->text) : a->text));
}

static const char *ask(const struct edge_log_query *q) {
    int before = got.calls;
    CU_ASSERT_PTR_NOT_NULL_FATAL(edge_log_ask(lg, q, on_answer, NULL));
    CU_ASSERT_EQUAL(got.calls, before);
    UNTIL(got.calls == before + 1);
    CU_ASSERT_EQUAL(got.rc, HT_OK);
    return got.text;
}

static void lines_become_rows_wherever_they_are_cut(void) {
    begin();
    size_t n = make_lines(1, 40);
    for (size_t cut = 1; cut < n; cut += 97) {
        int fd = dial();
        CU_ASSERT_TRUE(feed_bytes(fd, frames, cut, PATIENCE_MS));
        io_loop_turn(loop, false);
        CU_ASSERT_TRUE(feed_bytes(fd, frames + cut, n - cut, PATIENCE_MS));
        close(fd);
    }
    size_t rounds = (n - 1 + 96) / 97;
    UNTIL(written() == 40 * rounds);
    int fd = dial();
    for (size_t i = 0; i < n; i++) /* and byte by byte */
        CU_ASSERT_TRUE(feed_bytes(fd, frames + i, 1, PATIENCE_MS));
    close(fd);
    UNTIL(written() == 40 * rounds + 40);
    const char *text = ask(&(struct edge_log_query){.limit = 1});
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"url\":\"/40\""));
    CU_ASSERT_EQUAL(got.seen, (int64_t)(40 * rounds + 40));
    end();
}

static void what_is_no_line_ends_its_connection_alone(void) {
    char c;
    begin();
    int good = dial(), bad = dial();
    CU_ASSERT_TRUE(feed_bytes(good, "5 he", 4, PATIENCE_MS));
    CU_ASSERT_TRUE(feed_bytes(bad, "4 fine0 ", 8, PATIENCE_MS));
    UNTIL(recv(bad, &c, 1, 0) == 0);
    CU_ASSERT_TRUE(feed_bytes(good, "llo", 3, PATIENCE_MS));
    UNTIL(written() == 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(ask(&(struct edge_log_query){.limit = 9}), "\"message\":\"fine\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(ask(&(struct edge_log_query){.limit = 1}), "\"message\":\"hello\""));
    close(good);
    close(bad);
    end();
}

static void a_question_may_be_cancelled(void) {
    begin();
    int before = got.calls;
    struct edge_log_ask *a = edge_log_ask(lg, &(struct edge_log_query){.limit = 1}, on_answer, NULL);
    struct edge_log_ask *b = edge_log_ask_stats(lg, 1, on_answer, NULL);
    edge_log_cancel(&a);
    CU_ASSERT_PTR_NULL(a);
    CU_ASSERT_PTR_NOT_NULL(b);
    UNTIL(got.calls > before);
    CU_ASSERT_EQUAL(got.calls, before + 1);
    CU_ASSERT_TRUE(got.rc == HT_OK && got.text[0] == '\0' && got.totals.bytes > 0 && got.totals.rows == 0);
    a = edge_log_ask(lg, &(struct edge_log_query){.limit = 1}, on_answer, NULL); /* one is left behind */
    edge_log_cancel(&a);
    end();
}

/* ---- following ---- */

static struct follower {
    struct edge_log_follower f;
    int calls;
    struct follower *other;
} one, two;

static void on_more(struct edge_log_follower *f) {
    struct follower *me = ht_container_of(f, struct follower, f);
    me->calls++;
    if (me->other)
        edge_log_unfollow(&me->other->f);
}

static void followers_are_told(void) {
    begin();
    memset(&one, 0, sizeof one);
    memset(&two, 0, sizeof two);
    edge_log_unfollow(&one.f);
    one.f.more = two.f.more = on_more;
    edge_log_follow(lg, &one.f);
    edge_log_follow(lg, &two.f);
    int fd = dial();
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(1, 3), PATIENCE_MS));
    UNTIL(one.calls == 1 && two.calls == 1);
    one.other = &two;
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(4, 4), PATIENCE_MS));
    UNTIL(one.calls == 2);
    CU_ASSERT_TRUE(two.calls == 1);
    const char *text =
        ask(&(struct edge_log_query){.limit = 9, .order = EDGE_LOG_OLDEST_FIRST, .after = 3, .events = true});
    CU_ASSERT_EQUAL(strncmp(text, "id: 4\ndata: {\"id\":4,", 20), 0);
    CU_ASSERT_EQUAL(got.seen, 4);
    edge_log_unfollow(&one.f);
    close(fd);
    end();
}

/* ---- the disk ---- */

static void what_was_taken_is_written_at_the_end(void) {
    begin();
    int fd = dial();
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(1, 100), PATIENCE_MS));
    for (int i = 0; i < 50; i++) /* accepted, but perhaps not read */
        io_loop_turn(loop, false);
    size_t n = make_lines(101, 200);
    CU_ASSERT_EQUAL(send(fd, frames, n, 0), (ssize_t)n);
    edge_log_stop(&lg);
    start();
    UNTIL(strstr(ask(&(struct edge_log_query){.limit = 1}), "\"id\":200,") != NULL);
    close(fd);
    end();
}

static void a_locked_file_is_waited_for_and_then_lines_are_lost(void) {
    struct edge_log_counts c;
    char path[EDGE_PATH];
    sqlite3 *db;
    begin();
    UNTIL(*ask(&(struct edge_log_query){.limit = 1}) == '\0'); /* it is open */
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(edge_path(folder, EDGE_LOG_FILE, path), &db), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    int fd = dial();
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(1, 7), PATIENCE_MS));
    CU_ASSERT_PTR_NOT_NULL(ask(&(struct edge_log_query){.limit = 1})); /* meanwhile it answers */
    CU_ASSERT_EQUAL(written(), 0);
    UNTIL((edge_log_count(lg, &c), c.lost == 7)); /* not for ever */
    CU_ASSERT_EQUAL(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(8, 8), PATIENCE_MS));
    UNTIL(written() == 1);
    const char *text = ask(&(struct edge_log_query){.limit = 9});
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"7 lines were lost, as the log could not be written\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"url\":\"/8\""));
    sqlite3_close(db);
    close(fd);
    end();
}

/* The disk stands still: lines wait, then they stay with HAProxy, and the loop goes on. */
static void a_slow_disk_stops_reading_and_nothing_else(void) {
    char path[EDGE_PATH];
    sqlite3 *db;
    begin();
    UNTIL(*ask(&(struct edge_log_query){.limit = 1}) == '\0');
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(edge_path(folder, EDGE_LOG_FILE, path), &db), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    int fd = dial();
    size_t n = make_lines(1, 10000), taken = 0;
    while (feed_bytes(fd, frames, n, 300)) {
        taken++;
        CU_ASSERT_TRUE_FATAL(taken * n < 2 * EDGE_LOGTHREAD_QUEUE);
    }
    CU_ASSERT_TRUE(taken * n > EDGE_LOGTHREAD_QUEUE / 2);
    CU_ASSERT_EQUAL(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    CU_ASSERT_TRUE(feed_bytes(fd, frames + n, 0, PATIENCE_MS));
    struct edge_log_counts c;
    UNTIL((edge_log_count(lg, &c), c.written + c.lost >= taken * 10000)); /* and goes on */
    sqlite3_close(db);
    close(fd);
    end();
}

static void a_file_that_cannot_be_opened_is_said_in_answers(void) {
    char path[EDGE_PATH];
    begin();
    edge_log_stop(&lg);
    char more[EDGE_PATH + 8];
    edge_path(folder, EDGE_LOG_FILE, path);
    const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < HT_ARRAY_LEN(ends); i++) {
        snprintf(more, sizeof more, "%s%s", path, ends[i]);
        (void)unlink(more);
    }
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    start();
    int fd = dial(), before = got.calls;
    struct edge_log_counts c;
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(1, 5), PATIENCE_MS));
    UNTIL((edge_log_count(lg, &c), c.lost == 5));
    CU_ASSERT_PTR_NOT_NULL(edge_log_ask(lg, &(struct edge_log_query){.limit = 1}, on_answer, NULL));
    UNTIL(got.calls > before);
    CU_ASSERT_EQUAL(got.rc, HT_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(got.text, "log.db"));
    CU_ASSERT_EQUAL(rmdir(path), 0); /* it may be mended while it runs */
    UNTIL(feed_bytes(fd, frames, make_lines(6, 6), PATIENCE_MS) && written() > 0);
    close(fd);
    end();
}

static void a_file_that_is_taken_away_is_begun_anew(void) {
    char path[EDGE_PATH];
    begin();
    int fd = dial();
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(1, 5), PATIENCE_MS));
    UNTIL(written() == 5);
    CU_ASSERT_EQUAL(unlink(edge_path(folder, EDGE_LOG_FILE, path)), 0);
    ht_clock_skip(UINT64_C(61) * 1000000); /* it looks once a minute */
    CU_ASSERT_TRUE(feed_bytes(fd, frames, make_lines(6, 6), PATIENCE_MS));
    UNTIL((feed_bytes(fd, frames, make_lines(7, 7), PATIENCE_MS), access(path, F_OK) == 0));
    UNTIL(strstr(ask(&(struct edge_log_query){.limit = 1}), "\"url\":\"/7\"") != NULL);
    close(fd);
    end();
}

static void further_secrets_are_known_from_then_on(void) {
    static const char *const names[] = {"mine", "yours"};
    static const char line[] = "23 {\"url\":\"/?a=1&yours=2\"}";
    begin();
    CU_ASSERT_EQUAL(edge_log_secrets(lg, names, 2), HT_OK);
    CU_ASSERT_EQUAL(edge_log_secrets(lg, names + 1, 1), HT_OK);
    int fd = dial();
    CU_ASSERT_TRUE(feed_bytes(fd, line, sizeof line - 1, PATIENCE_MS));
    UNTIL(written() == 1);
    const char *text = ask(&(struct edge_log_query){.limit = 1});
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "/?a=1&yours=\xe2\x80\xa2"));
    close(fd);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"lines become rows wherever they are cut", lines_become_rows_wherever_they_are_cut},
        {"what is no line ends its connection alone", what_is_no_line_ends_its_connection_alone},
        {"a question may be cancelled", a_question_may_be_cancelled},
        {"followers are told", followers_are_told},
        {"what was taken is written at the end", what_was_taken_is_written_at_the_end},
        {"a locked file is waited for, and then lines are lost", a_locked_file_is_waited_for_and_then_lines_are_lost},
        {"a slow disk stops reading and nothing else", a_slow_disk_stops_reading_and_nothing_else},
        {"a file that cannot be opened is said in answers", a_file_that_cannot_be_opened_is_said_in_answers},
        {"a file that is taken away is begun anew", a_file_that_is_taken_away_is_begun_anew},
        {"further secrets are known from then on", further_secrets_are_known_from_then_on},
        {NULL, NULL},
    };
    return tap_main("edge: the log", tests);
}
