/* --audit: the file is one of whole lines, and what is not in it is known, whatever becomes of the disk. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/capture.h"
#include "cli/cli.h"
#include "events_gen.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

static char folder[] = "/tmp/hoody-tunnel-audit-XXXXXX", path[64], old[64], pipe_path[64];
static struct io_loop *loop;
static struct cli_audit audit;
static struct capture seen;
static char text[1 << 20];

#define TEST_LOOP loop
#include "support/clock_still.h"
#include "support/turns.h"

static const char *content(const char *of) {
    FILE *f = fopen(of, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
    return text;
}

static void begin(const char *of) {
    struct ht_errmsg err = {""};
    unlink(path);
    unlink(old);
    unlink(pipe_path);
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    io_loop_turn(loop, false);
    CU_ASSERT_EQUAL_FATAL(cli_audit_open(&audit, loop, of, &err), HT_OK);
}

static void end(void) {
    cli_audit_close(&audit);
    io_loop_destroy(&loop);
}

static bool line(const char *of, bool now) { return cli_audit_line(&audit, ht_slice_str(of), now); }

/* Time passes: what is due is done. */
static void later(void) {
    ht_clock_skip(1001000);
    settle();
}

/* So many bytes fit on the disk: the write that crosses the border is cut short, the next ones fail. */
static size_t disk_left = SIZE_MAX;

static void disk_of(size_t n) { disk_left = n; }

ssize_t write(int fd, const void *p, size_t n);

__attribute__((visibility("default"))) ssize_t write(int fd, const void *p, size_t n) {
    if (fd == audit.fd && n > 0 && disk_left == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (fd == audit.fd && disk_left != SIZE_MAX) {
        n = ht_min(n, disk_left);
        disk_left -= n;
    }
    return syscall(SYS_write, fd, p, n);
}

static void lines_are_appended(void) {
    struct stat st;
    umask(0);
    begin(path);
    CU_ASSERT(line("one\n", true));
    CU_ASSERT(line("two\n", false));
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\n"); /* at once: whoever reads along sees it */
    CU_ASSERT(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    end();
    struct ht_errmsg err;
    loop = io_loop_create();
    CU_ASSERT_EQUAL_FATAL(cli_audit_open(&audit, loop, path, &err), HT_OK);
    CU_ASSERT(line("three\n", true));
    end();
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\nthree\n");
    loop = io_loop_create();
    char nowhere[96];
    snprintf(nowhere, sizeof nowhere, "%s/none/audit", folder);
    CU_ASSERT_EQUAL(cli_audit_open(&audit, loop, nowhere, &err), HT_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/none/audit: No such file or directory"));
    end();
}

static void a_file_that_is_moved_away(void) {
    begin(path);
    CU_ASSERT(line("one\n", true));
    CU_ASSERT_EQUAL(rename(path, old), 0);
    later();
    CU_ASSERT(line("two\n", true));
    CU_ASSERT_STRING_EQUAL(content(path), "two\n");
    CU_ASSERT_STRING_EQUAL(content(old), "one\n");
    /* SIGHUP: not even a second later. */
    CU_ASSERT_EQUAL(rename(path, old), 0);
    cli_audit_reopen();
    CU_ASSERT(line("three\n", true));
    CU_ASSERT_STRING_EQUAL(content(path), "three\n");
    /* Where none can be made, the old one stays. */
    CU_ASSERT_EQUAL(rename(path, old), 0);
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    capture_begin(&seen);
    cli_audit_reopen();
    CU_ASSERT(line("four\n", true));
    cli_audit_reopen();
    CU_ASSERT(line("five\n", true));
    capture_end(&seen);
    CU_ASSERT_STRING_EQUAL(content(old), "three\nfour\nfive\n");
    CU_ASSERT(strstr(seen.err, "Is a directory; the old one stays in use\n") != NULL);
    CU_ASSERT_PTR_EQUAL(strchr(seen.err, '\n') + 1, seen.err + strlen(seen.err)); /* once */
    rmdir(path);
    end();
}

static void a_full_disk(void) {
    begin(path);
    CU_ASSERT(line("one\n", true));
    disk_of(4);
    capture_begin(&seen);
    CU_ASSERT(line("two\n", true));    /* "one\ntwo\n" */
    CU_ASSERT(!line("three\n", true)); /* what has to be there is not taken when it is not */
    CU_ASSERT(line("refused\n", false));
    CU_ASSERT(!line("four\n", true));
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\n");
    later();
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\n");
    disk_of(SIZE_MAX);
    later(); /* by itself */
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\nrefused\n");
    CU_ASSERT(line("five\n", true));
    capture_end(&seen);
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\nrefused\nfive\n");
    /* Both are said once. */
    const char *first = strstr(seen.err, "No space left on device; until it can be written"),
               *then = strstr(seen.err, "it can be written again\n");
    CU_ASSERT(first && then && first < then);
    CU_ASSERT(then && then[strlen("it can be written again\n")] == '\0');
    CU_ASSERT_PTR_NULL(strstr(first + 40, "until it can be written,"));
    end();
}

static void a_line_that_was_cut(void) {
    begin(path);
    capture_begin(&seen);
    disk_of(6);
    CU_ASSERT(line("one\n", true));
    CU_ASSERT(!line("two\n", true)); /* half of it is there: it stays, and the rest follows */
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntw");
    disk_of(SIZE_MAX);
    CU_ASSERT(line("three\n", true));
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\nthree\n");
    /* In another file it is whole. */
    disk_of(2);
    CU_ASSERT(line("four\n", false));
    CU_ASSERT_STRING_EQUAL(content(path), "one\ntwo\nthree\nfo");
    CU_ASSERT_EQUAL(rename(path, old), 0);
    disk_of(SIZE_MAX);
    cli_audit_reopen();
    CU_ASSERT(line("five\n", true));
    capture_end(&seen);
    CU_ASSERT_STRING_EQUAL(content(path), "four\nfive\n");
    end();
}

static void what_finds_no_room_is_counted(void) {
    static char long_line[64 << 10];
    memset(long_line, 'x', sizeof long_line - 2);
    long_line[sizeof long_line - 2] = '\n';
    begin(path);
    capture_begin(&seen);
    disk_of(0);
    unsigned kept = 0;
    for (int i = 0; i < 10; i++)
        kept += line(long_line, false);
    CU_ASSERT(kept > 1 && kept < 5);
    CU_ASSERT(!line("now\n", true));
    size_t most = ht_mem_bytes();
    disk_of(SIZE_MAX);
    CU_ASSERT(line("after\n", true));
    capture_end(&seen);
    CU_ASSERT(most < (1u << 20));
    char want[64];
    snprintf(want, sizeof want, "\"lines\":%u}\nafter\n", 10 - kept);
    const char *gap = strstr(content(path), "{\"event\":\"audit_gap\",\"time\":\"");
    CU_ASSERT_PTR_NOT_NULL_FATAL(gap);
    CU_ASSERT(gap == text + kept * (sizeof long_line - 1)); /* where they are missing */
    CU_ASSERT_STRING_EQUAL(gap + strlen(gap) - strlen(want), want);
    /* At the end too. */
    capture_begin(&seen);
    disk_of(0);
    (void)line("lost\n", false);
    cli_audit_close(&audit);
    disk_of(SIZE_MAX);
    capture_end(&seen);
    CU_ASSERT(strstr(seen.err, ": 1 line is missing at its end\n") != NULL);
    io_loop_destroy(&loop);
}

/* Whoever reads at the other end of a pipe does not hold up the tunnel, and may go away. */
static void a_pipe(void) {
    struct ht_errmsg err;
    unlink(pipe_path);
    CU_ASSERT_EQUAL_FATAL(mkfifo(pipe_path, 0600), 0);
    loop = io_loop_create();
    CU_ASSERT_EQUAL(cli_audit_open(&audit, loop, pipe_path, &err), HT_EIO); /* nobody reads */
    end();
    int reader = open(pipe_path, O_RDONLY | O_NONBLOCK);
    loop = io_loop_create();
    CU_ASSERT_EQUAL_FATAL(cli_audit_open(&audit, loop, pipe_path, &err), HT_OK);
    capture_begin(&seen);
    unsigned n = 0;
    while (line("a line of some length, so that it is full soon\n", true) && n < 100000)
        n++;
    CU_ASSERT(n > 10 && n < 100000);
    close(reader);
    CU_ASSERT(!line("x\n", true));
    cli_audit_close(&audit);
    capture_end(&seen);
    io_loop_destroy(&loop);
}

/* Nobody writes a line of his own: whatever a path holds, it is inside of a string of one object. */
static void nobody_forges_a_line(void) {
    static const char *const evil[] = {
        "/a\n{\"event\":\"audit\",\"allowed\":true}\n",
        "/\"},{\"x\":\"",
        "/\r\n\t\x7f\x1b[2J",
        "/\xff\xfe\xc3",
        "/\xe2\x80\xa8\xe2\x80\xae",
        "/\\u000a",
        "",
    };
    begin(path);
    for (size_t i = 0; i < HT_ARRAY_LEN(evil); i++) {
        struct ht_buf b = {0};
        CU_ASSERT_EQUAL(tell_audit(&b, "2026-01-31T12:00:00.000Z",
                                   &(struct tell_audit){.over = true,
                                                        .name = evil[i],
                                                        .method = evil[i],
                                                        .path = evil[i],
                                                        .query = evil[i],
                                                        .peer = evil[i],
                                                        .reason = "rate",
                                                        .rule = evil[i],
                                                        .error = evil[i]}),
                        0);
        CU_ASSERT(cli_audit_line(&audit, ht_buf_slice(&b), true));
        ht_buf_free(&b);
    }
    end();
    size_t n = 0;
    for (char *at = (char *)(uintptr_t)content(path), *nl; *at; at = nl + 1, n++) {
        static const struct json_limits limits = {.max_depth = 1, .max_keys = 32, .refuse_nul = true};
        struct json_reader r;
        struct ht_slice key;
        unsigned keys = 0;
        int more = 0, rc = 0;
        nl = strchr(at, '\n');
        CU_ASSERT_PTR_NOT_NULL_FATAL(nl);
        for (const char *c = at; c < nl; c++)
            CU_ASSERT((unsigned char)*c >= 0x20 && *c != 0x7f);
        json_begin(&r, at, (size_t)(nl - at), &limits);
        rc = json_object_begin(&r);
        while (rc == 0 && (more = json_object_next(&r, &key)) > 0) {
            keys++;
            rc = json_skip(&r);
        }
        CU_ASSERT(rc == 0 && more == 0 && json_end(&r) == 0);
        CU_ASSERT_EQUAL(keys, 19);
    }
    CU_ASSERT_EQUAL(n, HT_ARRAY_LEN(evil));
}

/* One failure is made good by a second attempt; at the worst it is counted. */
static void out_of_memory(void) {
    bool more = true;
    for (long i = 0; more; i++) {
        begin(path);
        capture_begin(&seen);
        ht_mem_fail_at(i);
        bool now = line("now\n", true), later_on = line("then\n", false);
        more = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT(line("last\n", true));
        capture_end(&seen);
        end();
        CU_ASSERT_EQUAL(strstr(content(path), "now\n") != NULL, now);
        CU_ASSERT_EQUAL(strstr(text, "then\n") != NULL, later_on);
        CU_ASSERT_EQUAL(strstr(text, "audit_gap") != NULL, !later_on);
        CU_ASSERT_FATAL(i < 20);
    }
}

/* ---- what is told of a decision ---- */

static const struct ht_audit allowed = {.binding = 1,
                                        .request = 7,
                                        .name = "api.test:443",
                                        .method = "GET",
                                        .path = "/v1/a\n",
                                        .query = "key=hidden",
                                        .peer = "127.0.0.1:5",
                                        .allowed = 1,
                                        .reason = "allowed",
                                        .rule = "GET /v1/*",
                                        .secret = 1},
                             refused = {.over = 1,
                                        .binding = 1,
                                        .request = 8,
                                        .name = "api.test:443",
                                        .method = "PUT",
                                        .path = "/v2",
                                        .peer = "",
                                        .reason = "denied-by-rule",
                                        .rule = "PUT *",
                                        .status = 403};

static struct ht_audit over(void) {
    struct ht_audit a = allowed;
    a.over = 1;
    a.status = 200;
    a.bytes_out = 2048;
    a.duration_us = 1500;
    return a;
}

/* Both, with the file of --audit. */
static void tell_all(struct cli_events *e) {
    struct ht_audit end_of_it = over();
    capture_begin(&seen);
    CU_ASSERT(cli_event_callbacks.audit(e, &allowed));
    CU_ASSERT(cli_event_callbacks.audit(e, &refused));
    CU_ASSERT(cli_event_callbacks.audit(e, &end_of_it));
    settle();
    cli_events_free(e);
    capture_end(&seen);
}

static void begin_events(struct cli_events *e, const char *file) {
    struct ht_errmsg err;
    begin(NULL);
    CU_ASSERT_EQUAL_FATAL(cli_events_init(e, loop, 1), HT_OK);
    CU_ASSERT_EQUAL_FATAL(cli_audit_open(&e->audit, loop, file, &err), HT_OK);
}

static void decisions_in_the_file_and_as_json(void) {
    struct cli_events e;
    begin_events(&e, path);
    e.json = true;
    tell_all(&e);
    CU_ASSERT_STRING_EQUAL(content(path), seen.out); /* the same objects */
    static const char *const want[] = {
        "\"request\":7,\"over\":false,\"name\":\"api.test:443\",\"method\":\"GET\",\"path\":\"/v1/"
        "a\\u000a\",\"query\":null,"
        "\"peer\":\"127.0.0.1:5\",\"allowed\":true,\"reason\":\"allowed\",\"rule\":\"GET /v1/*\",\"secret\":true,"
        "\"status\":null,\"bytesIn\":0,\"bytesOut\":0,\"durationUs\":0,\"error\":null}\n",
        "\"request\":8,\"over\":true,\"name\":\"api.test:443\",\"method\":\"PUT\",\"path\":\"/"
        "v2\",\"query\":null,\"peer\":null,"
        "\"allowed\":false,\"reason\":\"denied-by-rule\",\"rule\":\"PUT *\",\"secret\":false,\"status\":403,",
        "\"status\":200,\"bytesIn\":0,\"bytesOut\":2048,\"durationUs\":1500,\"error\":null}\n",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(want); i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(seen.out, want[i]));
    CU_ASSERT_PTR_NULL(strstr(seen.out, "hidden"));
    end();
    begin_events(&e, path);
    e.audit_query = true;
    tell_all(&e);
    CU_ASSERT_PTR_NOT_NULL(strstr(content(path), "\"query\":\"key=hidden\""));
    CU_ASSERT_PTR_NULL(strstr(seen.out, "hidden"));
    end();
}

static void decisions_for_people(void) {
    struct cli_events e;
    begin_events(&e, NULL);
    tell_all(&e);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(seen.out, "  403  PUT api.test:443/v2  0 B, 0 us  (refused: denied-by-rule, PUT *)\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.out, "  200  GET api.test:443/v1/a\\x0a  2.0 KiB, 1.5 ms\n"));
    const char *nl = strchr(seen.out, '\n');
    CU_ASSERT(nl && strchr(nl + 1, '\n') && !strchr(nl + 1, '\n')[1]); /* one that goes on has no line yet */
    end();
    begin_events(&e, NULL);
    e.log_level = HT_LOG_WARN;
    tell_all(&e);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.out, "refused: "));
    CU_ASSERT_PTR_NULL(strstr(seen.out, "200"));
    end();
}

/* What cannot be noted is refused, and is not shown as if it had been let through. */
static void decisions_that_cannot_be_noted(void) {
    struct cli_events e;
    begin_events(&e, "/dev/full");
    e.json = true;
    capture_begin(&seen);
    CU_ASSERT(!cli_event_callbacks.audit(&e, &allowed));
    settle();
    cli_events_free(&e);
    capture_end(&seen);
    CU_ASSERT_STRING_EQUAL(seen.out, "");
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "audit file /dev/full: No space left on device; until it can be written, "
                                            "requests for names whose requests are checked are refused\n"));
    end();
}

static void connections_by_name(void) {
    struct cli_events e;
    struct ht_request r = {.binding = 2,
                           .kind = HT_PULL_TCP,
                           .stream_id = 1,
                           .method = "",
                           .target = "",
                           .peer = "127.0.0.1:6",
                           .bytes_in = 3};
    begin_events(&e, path);
    capture_begin(&seen);
    cli_event_callbacks.request(&e, &r); /* it came to a port */
    r.authority = "db.test:5432";
    cli_event_callbacks.request(&e, &r);
    settle();
    cli_events_free(&e);
    capture_end(&seen);
    CU_ASSERT_PTR_NOT_NULL(strstr(content(path),
                                  "\"binding\":2,\"request\":0,\"over\":true,\"name\":\"db.test:5432\",\"method\":null,"
                                  "\"path\":null,\"query\":null,\"peer\":\"127.0.0.1:6\",\"allowed\":true,"));
    CU_ASSERT_PTR_EQUAL(strchr(text, '\n') + 1, text + strlen(text));
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"lines are appended to a file of this user's alone", lines_are_appended},
        {"a file that is moved away is opened anew", a_file_that_is_moved_away},
        {"a full disk is reported once, and requests that cannot be noted are refused", a_full_disk},
        {"a line of which only a part was written is completed later", a_line_that_was_cut},
        {"lines without room are counted", what_finds_no_room_is_counted},
        {"a pipe whose reader is slow, or closes it", a_pipe},
        {"no text of a peer can add a line", nobody_forges_a_line},
        {"each allocation may fail", out_of_memory},
        {"decisions in the file and as JSON", decisions_in_the_file_and_as_json},
        {"decisions as lines for people", decisions_for_people},
        {"decisions that cannot be noted", decisions_that_cannot_be_noted},
        {"connections by name are noted", connections_by_name},
        {NULL, NULL},
    };
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/audit.jsonl", folder);
    snprintf(old, sizeof old, "%s/old", folder);
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", folder);
    int rc = tap_main("audit", tests);
    unlink(path);
    unlink(old);
    unlink(pipe_path);
    rmdir(folder);
    return rc;
}
