/* Targets, tokens, tables, JSON text, and what events look like. */
#include "base/mem.h"
#include "cli/capture.h"
#include "cli/cli.h"
#include "support/tap.h"
#include "json/json.h"

#include <sys/stat.h>

static void good_targets(void) {
    static const struct {
        const char *text, *local;
        unsigned port;
    } rows[] = {
        {"3000", "3000", 3000},           {":3000", ":3000", 3000},
        {"host:3000", "host:3000", 3000}, {"[::1]:3000", "[::1]:3000", 3000},
        {"8080=api:80", "api:80", 8080},  {"0=3000", "3000", 0},
        {"65535=1", "1", 65535},          {"8080=[::1]:80", "[::1]:80", 8080},
        {"http://a:1", "http://a:1", 1},  {"8080=http://a", "http://a", 8080},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct cli_target t;
        CU_ASSERT_EQUAL(cli_target_parse(&t, rows[i].text, NULL), 0);
        CU_ASSERT_STRING_EQUAL(t.local, rows[i].local);
        CU_ASSERT_EQUAL(t.container_port, rows[i].port);
    }
}

static void bad_targets(void) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "empty"},
        {"=3000", "left of the ="},
        {"x=3000", "left of the ="},
        {"70000=3000", "left of the ="},
        {"-1=3000", "left of the ="},
        {"8080=", "empty"},
        {"8080=0", "is not a port"},
        {"8080=host", "port is missing"},
        {"1=2=3", "host name"},
        {"8080:3000", "write 8080=3000 for port 8080 of the container and port 3000 here"},
        {"9=8080:3000", "8080 is not a host"},
        {"http://a:1/?b=c", "write a:1"},
        {" 1=2", "left of the ="},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct cli_target t;
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(cli_target_parse(&t, rows[i].text, &e), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, rows[i].says));
        if (!strstr(e.text, rows[i].says))
            printf("# %s: %s\n", rows[i].text, e.text);
    }
}

static char token_path[64];

static void write_token(const char *text, size_t n, mode_t mode) {
    if (!*token_path) {
        snprintf(token_path, sizeof token_path, P_tmpdir "/hoody-token-XXXXXX");
        int fd = mkstemp(token_path);
        CU_ASSERT_FATAL(fd >= 0);
        close(fd);
    }
    FILE *f = fopen(token_path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fwrite(text, 1, n, f);
    fclose(f);
    chmod(token_path, mode);
}

static void tokens(void) {
    static const struct {
        const char *text;
        size_t n;
        const char *token, *says;
    } rows[] = {
        {"secret\n", 7, "secret", NULL},
        {"secret", 6, "secret", NULL},
        {"secret \t\r\nmore\n", 14, "secret", NULL},
        {"", 0, NULL, "empty"},
        {"\nsecret", 7, NULL, "empty"},
        {"two words", 9, NULL, "space"},
        {"a\0b", 3, NULL, "NUL"},
        {"k\xc3\xa4se", 5, NULL, "ASCII"},
        {"\xef\xbb\xbfsecret\r\n", 11, "secret", NULL},
    };
    char token[WIRE_LIMIT_MAX_TOKEN + 1]; /* the last row has a byte order mark */
    struct capture c;
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_errmsg e = {""};
        write_token(rows[i].text, rows[i].n, 0600);
        capture_begin(&c);
        int rc = cli_token(token_path, "from the environment", token, &e);
        capture_end(&c);
        CU_ASSERT_STRING_EQUAL(c.err, "");
        if (rows[i].token) {
            CU_ASSERT_EQUAL(rc, 0);
            CU_ASSERT_STRING_EQUAL(token, rows[i].token);
        } else {
            CU_ASSERT_EQUAL(rc, HT_EINVAL);
            CU_ASSERT_PTR_NOT_NULL(strstr(e.text, rows[i].says));
        }
    }
    struct ht_errmsg e;
    write_token("hunter2\n", 8, 0644);
    capture_begin(&c);
    CU_ASSERT_EQUAL(cli_token(token_path, NULL, token, &e), 0);
    capture_end(&c);
    CU_ASSERT_PTR_NOT_NULL(strstr(c.err, "every user of this machine"));
    CU_ASSERT_PTR_NULL(strstr(c.err, "hunter2"));
    char *big = malloc(WIRE_LIMIT_MAX_TOKEN + 2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(big);
    memset(big, 'x', WIRE_LIMIT_MAX_TOKEN + 1);
    write_token(big, WIRE_LIMIT_MAX_TOKEN, 0600);
    CU_ASSERT_EQUAL(cli_token(token_path, NULL, token, &e), 0);
    CU_ASSERT_EQUAL(strlen(token), WIRE_LIMIT_MAX_TOKEN);
    write_token(big, WIRE_LIMIT_MAX_TOKEN + 1, 0600);
    CU_ASSERT_EQUAL(cli_token(token_path, NULL, token, &e), HT_EINVAL);
    free(big);
    unlink(token_path);
    CU_ASSERT_EQUAL(cli_token(token_path, NULL, token, &e), HT_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "No such file"));
    CU_ASSERT_EQUAL(cli_token(NULL, NULL, token, &e), 0);
    CU_ASSERT_STRING_EQUAL(token, "");
    CU_ASSERT_EQUAL(cli_token(NULL, "abc", token, &e), 0);
    CU_ASSERT_STRING_EQUAL(token, "abc");
    CU_ASSERT_EQUAL(cli_token(NULL, "a b", token, &e), HT_EINVAL);
}

static void json_strings(void) {
    static const struct {
        const char *text, *json;
    } rows[] = {
        {"", "\"\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\n\t\x7f", "\"\\u000a\\u0009\\u007f\""},
        {"k\xc3\xa4se \xe2\x82\xac \xf0\x9f\x98\x80", "\"k\xc3\xa4se \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\xc2\x9b\xe2\x80\xae", "\"\\u009b\\u202e\""},
        {"\xff", "\"\xef\xbf\xbd\""},
        {"\xc3", "\"\xef\xbf\xbd\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf5\x80\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf b = {0};
        CU_ASSERT_EQUAL(cli_json_string(&b, rows[i].text), 0);
        CU_ASSERT(ht_slice_is(ht_buf_slice(&b), rows[i].json));
        CU_ASSERT_EQUAL(json_validate((char *)b.data, b.len, NULL, NULL), 0);
        ht_buf_free(&b);
    }
}

static void human_numbers(void) {
    char out[CLI_HUMAN];
    CU_ASSERT_STRING_EQUAL(cli_human_bytes(0, out), "0 B");
    CU_ASSERT_STRING_EQUAL(cli_human_bytes(1023, out), "1023 B");
    CU_ASSERT_STRING_EQUAL(cli_human_bytes(1536, out), "1.5 KiB");
    CU_ASSERT_STRING_EQUAL(cli_human_bytes(150u << 20, out), "150 MiB");
    CU_ASSERT_STRING_EQUAL(cli_human_us(999, out), "999 us");
    CU_ASSERT_STRING_EQUAL(cli_human_us(2500, out), "2.5 ms");
    CU_ASSERT_STRING_EQUAL(cli_human_us(250000, out), "250 ms");
    CU_ASSERT_STRING_EQUAL(cli_human_us(3400000, out), "3.4 s");
}

static void tables(void) {
    struct cli_table t = {.columns = 3};
    struct capture c;
    static const char *const cells[] = {"A", "LONG HEADING", "C", "k\xc3\xa4se", "x", "y", "abcdefgh", "1\n2", ""};
    for (size_t i = 0; i < HT_ARRAY_LEN(cells); i++)
        CU_ASSERT_EQUAL(cli_table_cell(&t, "%s", cells[i]), 0);
    capture_begin(&c);
    cli_table_print(&t, stdout);
    capture_end(&c);
    CU_ASSERT_STRING_EQUAL(c.out, "A         LONG HEADING  C\n"
                                  "k\xc3\xa4se      x             y\n"
                                  "abcdefgh  1\\x0a2        \n");
    cli_table_free(&t);
}

/* ---- events ---- */

static void say_everything(struct cli_events *e) {
    const struct ht_tunnel_callbacks *c = &cli_event_callbacks;
    c->connected(e, &(struct ht_connected){.session_id = "S-1", .server = "kit/1", .user = "ann"});
    c->bound(e, &(struct ht_bound){.binding = 1,
                                   .kind = HT_EXPOSE_HTTP,
                                   .container_port = 3000,
                                   .target = "127.0.0.1:3000",
                                   .url = "http://127.0.0.1:3000"});
    c->bound(
        e, &(struct ht_bound){.binding = 2, .kind = HT_PULL_TCP, .container_port = 9, .target = "db:5432", .url = ""});
    c->request(e, &(struct ht_request){.binding = 1,
                                       .kind = HT_EXPOSE_HTTP,
                                       .stream_id = 2,
                                       .method = "GET",
                                       .target = "/a\"b",
                                       .peer = "192.0.2.1:7",
                                       .status = 200,
                                       .bytes_out = 2048,
                                       .duration_us = 1500});
    c->request(e, &(struct ht_request){.binding = 1,
                                       .kind = HT_EXPOSE_HTTP,
                                       .method = "GET",
                                       .target = "/x",
                                       .peer = "",
                                       .reset_code = 6,
                                       .error = "connection refused"});
    c->request(e, &(struct ht_request){
                      .binding = 2, .kind = HT_PULL_TCP, .method = "", .target = "", .peer = "", .bytes_in = 10});
    c->unbound(e, &(struct ht_unbound){.binding = 1, .revoked = 1, .reason = "another"});
    c->disconnected(e, &(struct ht_disconnected){
                           .error = HT_TUNNEL_ELOST, .text = "it is lost", .retrying = 1, .retry_in_ms = 250});
    c->connected(e, &(struct ht_connected){.session_id = "S-2", .server = "", .resumed = 1});
    c->disconnected(e, &(struct ht_disconnected){.error = HT_TUNNEL_ELOST,
                                                 .text = "again",
                                                 .retrying = 1,
                                                 .retry_in_ms = 10,
                                                 .paused = 2,
                                                 .paused_for_ms = 60000});
    c->connected(
        e, &(struct ht_connected){.session_id = "S-2", .server = "", .resumed = 1, .whole = 1, .paused_ms = 1260});
    c->ended(e, HT_TUNNEL_ELOST, "it is lost");
}

static void run_events(struct cli_events *e, struct capture *c, bool json, enum ht_log_level level) {
    struct io_loop *loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    CU_ASSERT_EQUAL_FATAL(cli_events_init(e, loop, 2), 0);
    e->json = json;
    e->log_level = level;
    capture_begin(c);
    say_everything(e);
    cli_events_free(e);
    capture_end(c);
    io_loop_destroy(&loop);
}

static void events_as_json(void) {
    struct cli_events e;
    static struct capture c;
    unsigned lines = 0;
    run_events(&e, &c, true, HT_LOG_INFO);
    for (char *line = strtok(c.out, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        CU_ASSERT_EQUAL(json_validate(line, strlen(line), NULL, NULL), 0);
        CU_ASSERT_EQUAL(strncmp(line, "{\"event\":\"", 10), 0);
        if (lines == 0)
            CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"resumed\":false,\"proxy\":null,\"user\":\"ann\","
                                                "\"whole\":false,\"pausedMs\":null}"));
        if (lines == 2)
            CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"containerPort\":9,\"target\":\"db:5432\",\"tls\":false,\"insecure\":"
                                                "false,\"names\":null,\"urls\":null,\"publicUrl\":null,\"url\":null}"));
        if (lines == 3)
            CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"method\":\"GET\",\"target\":\"/a\\\"b\",\"status\":200"));
        if (lines == 4)
            CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"status\":null,\"peer\":null"));
        if (lines == 7)
            CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"message\":\"it is lost\",\"retryInMs\":250,\"paused\":0,"
                                                "\"pausedForMs\":null}"));
        if (lines == 9)
            CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"paused\":2,\"pausedForMs\":60000}"));
        if (lines == 10)
            CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"whole\":true,\"pausedMs\":1260}"));
        if (lines == 11)
            CU_ASSERT_PTR_NOT_NULL(
                strstr(line, "\"losses\":2,\"whole\":0,\"resentBytes\":0,\"pausedMs\":0,\"longestPauseMs\":0}"));
    }
    CU_ASSERT_EQUAL(lines, 12);
    CU_ASSERT_STRING_EQUAL(c.err, "hoody-tunnel: it is lost\n");
}

static void events_as_text(void) {
    struct cli_events e;
    static struct capture c;
    run_events(&e, &c, false, HT_LOG_INFO);
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out,
                                  "connected to kit/1 as ann, session S-1\nhttp://127.0.0.1:3000 -> 127.0.0.1:3000\n"
                                  "port 9 of the container -> db:5432\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "200  GET /a\"b  2.0 KiB, 1.5 ms\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "---  GET /x  0 B, 0 us  (connection refused)\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "tcp  somebody  10 B in, 0 B out, 0 us\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "http://127.0.0.1:3000 was taken over by another driver: another\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "disconnected: it is lost; trying again in 250 ms\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "session S-2, resumed\n"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(c.out, "disconnected: again; 2 open requests or connections wait; trying again in 10 ms\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "session S-2, resumed after 1.3 s, nothing lost\n"));
    run_events(&e, &c, false, HT_LOG_WARN);
    CU_ASSERT_PTR_NULL(strstr(c.out, "/a\"b"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "/x"));
    run_events(&e, &c, false, HT_LOG_ERROR);
    CU_ASSERT_PTR_NULL(strstr(c.out, "/x"));
    CU_ASSERT_PTR_NOT_NULL(strstr(c.out, "http://127.0.0.1:3000 -> "));
}

/* A reader that has stopped reading: lines are dropped and counted, nobody waits. */
static void lines_that_nobody_reads_are_left_out_and_counted(void) {
    int ends[2];
    struct capture c;
    struct cli_output o;
    static char line[1024];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    struct io_loop *loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    capture_begin(&c);
    CU_ASSERT_FATAL(dup2(ends[1], STDOUT_FILENO) >= 0);
    cli_output_init(&o, loop);
    for (int i = 0; i < 1000; i++) {
        cli_output_line(&o, ht_slice_of(line, sizeof line));
        io_loop_turn(loop, false);
    }
    unsigned long dropped = o.dropped;
    close(ends[0]); /* and now nobody can */
    io_ignore_sigpipe();
    cli_output_finish(&o);
    capture_end(&c);
    close(ends[1]);
    CU_ASSERT(dropped > 500);
    CU_ASSERT(o.dead);
    CU_ASSERT_PTR_NOT_NULL(strstr(c.err, "lines were left out"));
    io_loop_destroy(&loop);
}

static const struct tap_test tests[] = {
    {"targets that are right", good_targets},
    {"targets that are wrong, with their messages", bad_targets},
    {"tokens from files and variables", tokens},
    {"texts become JSON strings", json_strings},
    {"bytes and times become short texts", human_numbers},
    {"the columns of tables are aligned", tables},
    {"events as JSON", events_as_json},
    {"events as text", events_as_text},
    {"lines that nobody reads are left out and counted", lines_that_nobody_reads_are_left_out_and_counted},
    {NULL, NULL},
};

int main(void) { return tap_main("cli, text", tests); }
