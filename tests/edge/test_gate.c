/* The agent of the gate, as HAProxy speaks to it: at each split, out of order, and with every allocation failing. */
#include "edge/gate.h"

#include "base/base64.h"
#include "edge/spop.h"
#include "io/net_support.h"

#include "support/clock_still.h"

#include <crypt.h>

#define P "67e89abc123def456789abcd"
#define C "890abcdef12345678901cdef"
#define D "0123456789abcdef01234567"
#define TOKEN "0123456789abcdef"

static struct edge_maps *maps;
static struct edge_policies *policies;
static struct edge_hooktable *hooks;
static struct edge_gate *gate;
static struct io_conn *end;
static struct ht_buf got;
static bool closed;
static char folder[64];

static void readable(void *ctx) {
    uint8_t *to = ht_buf_reserve(&got, 4096);
    (void)ctx;
    ssize_t n = io_conn_read(end, to, 4096);
    if (n > 0)
        ht_buf_commit(&got, (size_t)n);
    else if (n != HT_EAGAIN)
        io_conn_read_on(end, !(closed = true));
}

static void open_conn(void) {
    static const struct io_conn_ops ops = {.readable = readable};
    struct io_conn *both[2];
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(loop, both), 0);
    end = both[0];
    closed = false;
    io_conn_set_ops(end, &ops, NULL);
    io_conn_read_on(end, true);
    edge_gate_accept(gate, both[1]);
}

static void close_conn(void) {
    io_conn_close(&end);
    turns(3);
    ht_buf_free(&got);
}

static void begin(void) {
    struct ht_errmsg err;
    snprintf(folder, sizeof folder, "/tmp/ht-edge-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    maps = edge_maps_create(loop, folder, NULL);
    policies = edge_policies_create(maps);
    hooks = edge_hooktable_create(maps);
    gate = edge_gate_create(loop, policies, hooks);
    CU_ASSERT_FATAL(maps && policies && hooks && gate);
    edge_maps_hold(maps);
}

static void finish(void) {
    char line[128];
    edge_gate_destroy(&gate);
    edge_hooktable_destroy(&hooks);
    edge_policies_destroy(&policies);
    edge_maps_destroy(&maps);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
}

static void set(enum edge_owner owner, const char *id, const char *doc) {
    struct ht_errmsg e = {""};
    int rc = edge_policies_set(policies, owner, id, ht_slice_str(doc), &e);
    if (rc < 0)
        printf("# %s\n", e.text);
    CU_ASSERT_EQUAL(rc, 0);
}

/* ---- HAProxy's side ---- */

static void put_text(struct ht_buf *b, const char *s) {
    uint8_t n[2] = {(uint8_t)strlen(s), 0};
    size_t len = strlen(s);
    if (len >= 240) {
        n[0] = (uint8_t)(len | 240);
        n[1] = (uint8_t)((len - 240) >> 4);
    }
    CU_ASSERT(len < 2288 && ht_buf_append(b, n, len < 240 ? 1 : 2) == 0 && ht_buf_append_str(b, s) == 0);
}

static void end_frame(struct ht_buf *b, size_t at) {
    uint8_t *p = ht_buf_head(b) + at;
    size_t n = ht_buf_size(b) - at - 4;
    p[2] = (uint8_t)(n >> 8);
    p[3] = (uint8_t)n;
}

static void put_hello(struct ht_buf *b, bool check) {
    static const char head[] = "\0\0\0\0\1\0\0\0\1\0\0\22supported-versions\10\3"
                               "2.0\16max-frame-size\3\xfc\xf0\6\14capabilities\10\12pipelining";
    size_t at = ht_buf_size(b);
    CU_ASSERT(ht_buf_append(b, head, sizeof head - 1) == 0 &&
              (!check || ht_buf_append_str(b, "\13healthcheck\x11") == 0));
    end_frame(b, at);
}

static void put_question(struct ht_buf *b, const char *kind, uint8_t frame, const char *container, const char *program,
                         const char *target, const char *heads) {
    static const char *const names[] = {"container", "program", "index", "method", "target", "heads"};
    const char *const values[] = {container, program, "1", "GET", target, heads};
    const uint8_t head[] = {0, 0, 0, 0, SPOP_NOTIFY, 0, 0, 0, 1, 7, frame};
    size_t at = ht_buf_size(b);
    CU_ASSERT_EQUAL(ht_buf_append(b, head, sizeof head), 0);
    put_text(b, kind);
    CU_ASSERT_EQUAL(ht_buf_append(b, "\7", 1), 0);
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        put_text(b, names[i]);
        CU_ASSERT_EQUAL(ht_buf_append(b, "\10", 1), 0);
        put_text(b, values[i]);
    }
    put_text(b, "visitor");
    CU_ASSERT_EQUAL(ht_buf_append(b, "\6\xcb\0\x71\7", 5), 0); /* 203.0.113.7 */
    end_frame(b, at);
}

static void say(const struct ht_buf *b, size_t from, size_t n) {
    struct iovec v = {ht_buf_head(b) + from, n};
    CU_ASSERT_EQUAL(io_conn_write(end, &v, 1), (ssize_t)n);
}

/* Waits for a frame; its payload is text to look into. Type 0: the connection has ended. */
static uint8_t next(struct ht_buf *payload, uint64_t *frame) {
    struct spop_frame f = {.type = 0};
    enum spop_status why;
    ssize_t n = HT_EAGAIN;
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    ht_buf_consume(payload, ht_buf_size(payload));
    while ((n = spop_frame_read(ht_buf_slice(&got), SPOP_FRAME_MAX, &f, &why)) == HT_EAGAIN && !closed &&
           ht_now_ms() < until)
        turns(1);
    if (n <= 0)
        return 0;
    CU_ASSERT_EQUAL(ht_buf_append(payload, f.payload.p, f.payload.n), 0);
    *frame = f.frame;
    ht_buf_consume(&got, (size_t)n);
    return f.type;
}

static bool has(const struct ht_buf *b, const char *name, const char *value) {
    char want[200];
    int n = snprintf(want, sizeof want, "\1\3\2%c%s\10%c%s", (char)strlen(name), name, (char)strlen(value), value);
    return memmem(ht_buf_head(b), ht_buf_size(b), want, (size_t)n) != NULL;
}

/* Asks, and wants this verdict and this reason. */
static void expect(const char *kind, const char *container, const char *program, const char *target, const char *heads,
                   const char *verdict, const char *why) {
    struct ht_buf b = {0}, reply = {0};
    uint64_t frame = 0;
    put_question(&b, kind, 9, container, program, target, heads);
    say(&b, 0, ht_buf_size(&b));
    CU_ASSERT(next(&reply, &frame) == SPOP_ACK && frame == 9);
    bool ok = has(&reply, "verdict", verdict) && has(&reply, "why", why);
    if (!ok)
        printf("# %s %s: %.*s\n", program, heads, (int)ht_buf_size(&reply), (const char *)ht_buf_head(&reply));
    CU_ASSERT_TRUE(ok);
    ht_buf_free(&b);
    ht_buf_free(&reply);
}

static void greet(void) {
    struct ht_buf b = {0}, reply = {0};
    uint64_t frame;
    put_hello(&b, false);
    say(&b, 0, ht_buf_size(&b));
    CU_ASSERT_EQUAL(next(&reply, &frame), SPOP_AGENT_HELLO);
    ht_buf_free(&b);
    ht_buf_free(&reply);
}

#define TOKENS                                                                                                         \
    "{\"groups\":{\"ci\":{\"type\":\"token\",\"value\":\"" TOKEN "\"}},\"permissions\":{\"ci\":{\"exec\":true}}}"
#define BEARER "authorization: Bearer " TOKEN "\r\n"

static void documents_of_owners(void) {
    struct edge_policy *p;
    struct ht_errmsg e = {""};
    begin();
    open_conn();
    greet();
    expect("ask", P "-" C, "exec", "/", "", "allow", "open");
    set(EDGE_OF_PROJECT, P, TOKENS);
    CU_ASSERT(strncmp(edge_maps_get(maps, HAPROXY_MAP_PROJECT_POLICIES, P), "ask|", sizeof "ask") == 0);
    expect("ask", P "-" C, "exec", "/", "", "bearer", "nobody");
    expect("ask", P "-" C, "exec", "/", BEARER, "allow", "token");
    expect("ask", P "-" C, "terminal", "/", BEARER, "deny", "nobody");
    /* A container's document takes the project's place as a whole. */
    set(EDGE_OF_CONTAINER, C, "{\"default\":\"allow\"}");
    CU_ASSERT(strncmp(edge_maps_get(maps, HAPROXY_MAP_CONTAINER_POLICIES, C), "open|", sizeof "open") == 0);
    expect("ask", P "-" C, "exec", "/", "", "allow", "default");
    expect("ask", P "-" D, "exec", "/", "", "bearer", "nobody");
    /* One that cannot be read closes everything. */
    CU_ASSERT_EQUAL(edge_policies_set(policies, EDGE_OF_CONTAINER, C, ht_slice_str("{\"default\":1}"), &e), HT_EINVAL);
    CU_ASSERT(strstr(e.text, "\"allow\" or \"deny\"") && edge_policies_find(policies, ht_slice_str(P "-" C), &p) && !p);
    CU_ASSERT(strncmp(edge_maps_get(maps, HAPROXY_MAP_CONTAINER_POLICIES, C), "ask|", sizeof "ask") == 0);
    expect("ask", P "-" C, "exec", "/", BEARER, "deny", "broken");
    edge_policies_remove(policies, EDGE_OF_CONTAINER, C);
    edge_policies_remove(policies, EDGE_OF_CONTAINER, C);
    CU_ASSERT_PTR_NULL(edge_maps_get(maps, HAPROXY_MAP_CONTAINER_POLICIES, C));
    expect("ask", P "-" C, "exec", "/", "", "bearer", "nobody");
    edge_policies_remove(policies, EDGE_OF_PROJECT, P);
    expect("ask", P "-" C, "exec", "/", "", "allow", "open");
    /* No host of a container is like these. */
    expect("ask", P, "exec", "/", "", "deny", "broken");
    expect("ask", "", "exec", "/", "", "deny", "broken");
    CU_ASSERT_EQUAL(edge_policies_set(policies, EDGE_OF_PROJECT, "x", ht_slice_str("{}"), &e), HT_EINVAL);
    close_conn();
    finish();
}

/* Many owners, in any order. */
static void many_owners(void) {
    char id[32];
    struct edge_policy *p;
    begin();
    for (unsigned i = 0; i < 500; i++) {
        snprintf(id, sizeof id, "%024x", (i * 7919) % 500);
        set(EDGE_OF_CONTAINER, id, TOKENS);
    }
    for (unsigned i = 0; i < 500; i += 2) {
        snprintf(id, sizeof id, "%024x", i);
        edge_policies_remove(policies, EDGE_OF_CONTAINER, id);
    }
    for (unsigned i = 0; i < 500; i++) {
        char container[64];
        snprintf(container, sizeof container, P "-%024x", i);
        CU_ASSERT_EQUAL(edge_policies_find(policies, ht_slice_str(container), &p), i % 2 == 1);
        CU_ASSERT_EQUAL(p != NULL, i % 2 == 1);
    }
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_CONTAINER_POLICIES), 250);
    finish();
}

static void programs_have_ports(void) {
    struct ht_slice c = ht_slice_str(P "-" C), other = ht_slice_str(P "-" D);
    struct edge_policy *p;
    begin();
    set(EDGE_OF_CONTAINER, C,
        "{\"groups\":{\"a\":{\"type\":\"ip\",\"range\":\"0.0.0.0/0\"}},\"permissions\":{\"a\":{"
        "\"http\":true,\"web-app\":true}}}");
    CU_ASSERT(edge_policies_find(policies, c, &p) && p);
    CU_ASSERT_EQUAL(edge_maps_set(maps, HAPROXY_MAP_SERVICES, "terminal", "76"), 0);
    CU_ASSERT_EQUAL(edge_maps_set(maps, HAPROXY_MAP_SERVICES, P "-" C ".terminal", "7681"), 0);
    CU_ASSERT_EQUAL(edge_maps_set(maps, HAPROXY_MAP_SERVICES, P "-" C ".web-app", "8080"), 0);
    CU_ASSERT_TRUE(ht_slice_is(edge_policies_program_at(policies, p, c, 7681), "terminal"));
    CU_ASSERT_TRUE(ht_slice_is(edge_policies_program_at(policies, p, c, 8080), "web-app"));
    CU_ASSERT_TRUE(ht_slice_is(edge_policies_program_at(policies, p, c, 76), ""));
    CU_ASSERT_TRUE(ht_slice_is(edge_policies_program_at(policies, p, other, 76), "terminal"));
    CU_ASSERT_TRUE(ht_slice_is(edge_policies_program_at(policies, p, other, 8080), ""));
    finish();
}

static void set_hooks(const char *id, const char *doc) {
    struct ht_errmsg e = {""};
    int rc = edge_hooktable_set(hooks, id, ht_slice_str(doc), &e);
    if (rc < 0)
        printf("# %s\n", e.text);
    CU_ASSERT_EQUAL(rc, 0);
}

/* Whether the answer to a question has these bytes. */
static bool answers(const char *container, const char *program, const char *target, const char *heads,
                    const char *bytes) {
    struct ht_buf b = {0}, reply = {0};
    uint64_t frame = 0;
    put_question(&b, "ask", 9, container, program, target, heads);
    say(&b, 0, ht_buf_size(&b));
    CU_ASSERT(next(&reply, &frame) == SPOP_ACK && frame == 9);
    bool found = memmem(ht_buf_head(&reply), ht_buf_size(&reply), bytes, strlen(bytes)) != NULL;
    ht_buf_free(&b);
    ht_buf_free(&reply);
    return found;
}

#define HOOKS                                                                                                          \
    "{\"exec\":[{\"id\":\"say\",\"match\":{\"path\":\"/say\"},\"actions\":[{\"reply\":{\"status\":200}}]},"            \
    "{\"id\":\"in\",\"match\":{\"path\":\"/in\"},\"actions\":[{\"forward\":{\"program\":\"terminal\"}}]},"             \
    "{\"id\":\"to\",\"match\":{\"path\":\"/to\"},\"actions\":[{\"path\":\"/x\"},{\"forward\":{\"container\":\"" D      \
    "\",\"program\":\"exec\"}}]}]}"

/* An answer has what hooks do when the gate is open, and nothing of it when it is not. */
static void hooks_of_containers(void) {
    struct ht_errmsg e = {""};
    const char *value;
    begin();
    open_conn();
    greet();
    set_hooks(C, HOOKS);
    value = edge_maps_get(maps, HAPROXY_MAP_CONTAINER_HOOKS, C);
    CU_ASSERT(value && strlen(value) == 8 + 1 + 2 * 24 + 1 && strcmp(value + 8, "|" C "," D) == 0);
    expect("ask", P "-" C, "exec", "/say", "", "allow", "open");
    CU_ASSERT_TRUE(answers(P "-" C, "exec", "/say", "", "exec/say"));
    CU_ASSERT_TRUE(answers(P "-" C, "exec", "/to", "", P "-" D));
    CU_ASSERT_FALSE(answers(P "-" D, "exec", "/say", "", "exec/say"));
    CU_ASSERT_FALSE(answers(P "-" C, "terminal", "/say", "", "exec/say"));
    /* The project of the visited container comes with it, whoever's the id is. */
    CU_ASSERT_TRUE(answers(D "-" C, "exec", "/to", "", D "-" D));
    set(EDGE_OF_CONTAINER, C, TOKENS);
    CU_ASSERT_FALSE(answers(P "-" C, "exec", "/say", "", "exec/say"));
    CU_ASSERT_TRUE(answers(P "-" C, "exec", "/say", BEARER, "exec/say"));
    /* The terminal is not theirs, by a hook either. */
    expect("ask", P "-" C, "exec", "/in", BEARER, "deny", "forward");
    CU_ASSERT_FALSE(answers(P "-" C, "exec", "/in", BEARER, "exec/in"));
    expect("ask", P "-" C, "exec", "/to", BEARER, "allow", "token");
    /* Another container's gate has its own secrets, which it must not see. */
    set(EDGE_OF_CONTAINER, D,
        "{\"groups\":{\"a\":{\"type\":\"token\",\"value\":\"" TOKEN TOKEN
        "\",\"param\":\"k\"},\"b\":{\"type\":\"token\","
        "\"value\":\"" TOKEN TOKEN "\",\"header\":\"x-key\"}},\"permissions\":{\"a\":{\"exec\":true}}}");
    expect("ask", P "-" C, "exec", "/to", BEARER, "deny", "forward");
    expect("ask", P "-" C, "exec", "/to?k=" TOKEN TOKEN "&l=1", BEARER, "allow", "token");
    CU_ASSERT_TRUE(answers(P "-" C, "exec", "/to?k=" TOKEN TOKEN "&l=1", BEARER, "path\10\6/x?l=1"));
    CU_ASSERT_FALSE(answers(P "-" C, "exec", "/to?k=" TOKEN TOKEN "&l=1", BEARER, TOKEN TOKEN));
    CU_ASSERT_TRUE(answers(P "-" C, "exec", "/to?k=" TOKEN TOKEN, BEARER "x-key: 1\r\n", "x-key"));
    CU_ASSERT_EQUAL(edge_policies_set(policies, EDGE_OF_CONTAINER, D, ht_slice_str("{\"default\":1}"), &e), HT_EINVAL);
    expect("ask", P "-" C, "exec", "/to", BEARER, "deny", "forward");
    edge_policies_remove(policies, EDGE_OF_CONTAINER, D);
    /* A hook that cannot do its work closes, and so do hooks that cannot be read. */
    expect("ask", P "-" C, "exec", "/a/../to", BEARER, "hook", "hook");
    CU_ASSERT_EQUAL(edge_hooktable_set(hooks, C, ht_slice_str("{\"exec\":1}"), &e), HT_EINVAL);
    expect("ask", P "-" C, "exec", "/", BEARER, "deny", "broken");
    expect("ask", P "-" C, "exec", "/", "", "bearer", "nobody");
    CU_ASSERT(strcmp(edge_maps_get(maps, HAPROXY_MAP_CONTAINER_HOOKS, C) + 8, "|-") == 0);
    edge_hooktable_remove(hooks, C);
    edge_hooktable_remove(hooks, C);
    CU_ASSERT_PTR_NULL(edge_maps_get(maps, HAPROXY_MAP_CONTAINER_HOOKS, C));
    expect("ask", P "-" C, "exec", "/", BEARER, "allow", "token");
    CU_ASSERT_EQUAL(edge_hooktable_set(hooks, "x", ht_slice_str("{}"), &e), HT_EINVAL);
    close_conn();
    finish();
}

static char team[600], basic[128], wrong[128];

static void make_team(void) {
    struct crypt_data data = {.initialized = 0};
    snprintf(team, sizeof team,
             "{\"groups\":{\"team\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"%s\"},"
             "\"ci\":{\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"x-key\"}},"
             "\"permissions\":{\"team\":{\"*\":true},\"ci\":{\"exec\":true}}}",
             crypt_r("sesame", "$5$salt$", &data));
    snprintf(basic, sizeof basic, "Authorization: Basic ");
    basic[21 + ht_base64_put(basic + 21, "ann:sesame", 10)] = '\0';
    snprintf(wrong, sizeof wrong, "Authorization: Basic ");
    wrong[21 + ht_base64_put(wrong + 21, "ann:guess", 9)] = '\0';
}

static void passwords(void) {
    struct ht_buf b = {0}, reply = {0};
    uint64_t frame;
    begin();
    make_team();
    set(EDGE_OF_CONTAINER, C, team);
    set(EDGE_OF_CONTAINER, D, team);
    open_conn();
    greet();
    expect("ask", P "-" C, "exec", "/", "", "basic", "nobody");
    expect("ask", P "-" C, "exec", "/", basic, "login", "");
    /* A question that can be answered at once is not held up by one that waits. */
    put_question(&b, "login", 1, P "-" C, "exec", "/", basic);
    put_question(&b, "login", 2, P "-" C, "exec", "/", "x-key: " TOKEN);
    say(&b, 0, ht_buf_size(&b));
    CU_ASSERT(next(&reply, &frame) == SPOP_ACK && frame == 2 && has(&reply, "verdict", "allow") &&
              memmem(ht_buf_head(&reply), ht_buf_size(&reply), "usual\x11", 6));
    /* The permissions that were asked about may change meanwhile. */
    set(EDGE_OF_CONTAINER, C, TOKENS);
    CU_ASSERT(next(&reply, &frame) == SPOP_ACK && frame == 1 && has(&reply, "verdict", "allow") &&
              has(&reply, "group", "team") &&
              memmem(ht_buf_head(&reply), ht_buf_size(&reply), "authorization\x11", 14));
    set(EDGE_OF_CONTAINER, C, team);
    expect("ask", P "-" C, "exec", "/", basic, "allow", "password"); /* it is remembered */
    expect("ask", P "-" D, "exec", "/", basic, "allow", "password"); /* the same user of the same hash */
    /* Guesses: the address waits at that container, and who is remembered does not. */
    for (unsigned i = 0; i < AUTH_LOGIN_FREE; i++)
        expect("login", P "-" C, "exec", "/", wrong, "basic", "password");
    expect("login", P "-" C, "exec", "/", wrong, "basic", "password");
    expect("login", P "-" C, "exec", "/", wrong, "slow", "slow");
    expect("ask", P "-" C, "exec", "/", basic, "allow", "password");
    expect("login", P "-" D, "exec", "/", wrong, "basic", "password");
    /* Tokens are counted apart; one that is right passes. */
    for (unsigned i = 0; i <= AUTH_LOGIN_FREE; i++)
        expect("ask", P "-" C, "exec", "/", "x-key: wrong", "basic", "token");
    expect("ask", P "-" C, "exec", "/", "x-key: wrong", "slow", "token");
    expect("ask", P "-" C, "exec", "/", "x-key: " TOKEN, "allow", "token");
    /* The connection ends while a password is being checked. */
    ht_buf_consume(&b, ht_buf_size(&b));
    put_question(&b, "login", 1, P "-" D, "exec", "/", "Authorization: Basic YW5uOng=");
    say(&b, 0, ht_buf_size(&b));
    turns(1);
    close_conn();
    open_conn();
    greet();
    say(&b, 0, ht_buf_size(&b));
    turns(1);
    ht_buf_free(&b);
    ht_buf_free(&reply);
    finish();
    close_conn();
}

/* What HAProxy sends, cut in two at each byte, says the same. */
static void splits(void) {
    struct ht_buf b = {0}, reply = {0};
    uint64_t frame;
    begin();
    set(EDGE_OF_PROJECT, P, TOKENS);
    put_hello(&b, false);
    put_question(&b, "ask", 1, P "-" C, "exec", "/", BEARER);
    put_question(&b, "ask", 2, P "-" C, "exec", "/", "");
    for (size_t n = 1; n < ht_buf_size(&b); n++) {
        open_conn();
        say(&b, 0, n);
        turns(2);
        say(&b, n, ht_buf_size(&b) - n);
        CU_ASSERT_EQUAL(next(&reply, &frame), SPOP_AGENT_HELLO);
        CU_ASSERT(next(&reply, &frame) == SPOP_ACK && frame == 1 && has(&reply, "verdict", "allow"));
        CU_ASSERT(next(&reply, &frame) == SPOP_ACK && frame == 2 && has(&reply, "verdict", "bearer"));
        close_conn();
    }
    /* Byte by byte. */
    open_conn();
    for (size_t n = 0; n < ht_buf_size(&b); n++) {
        say(&b, n, 1);
        turns(1);
    }
    CU_ASSERT(next(&reply, &frame) == SPOP_AGENT_HELLO && next(&reply, &frame) == SPOP_ACK &&
              next(&reply, &frame) == SPOP_ACK);
    close_conn();
    ht_buf_free(&b);
    ht_buf_free(&reply);
    finish();
}

static void what_is_no_question(void) {
    static const struct {
        const char *text;
        size_t n;
        bool greeted;
    } rows[] = {
        {"\0\0\0\7\3\0\0\0\1\1\1", 11, false},          /* before HELLO */
        {"\0\0\0\7\3\0\0\0\1\1\1", 11, true},           /* nothing is asked */
        {"\0\0\0\x0d\3\0\0\0\1\1\1\4what\0", 17, true}, /* by another name */
        {"\0\0\0\x0c\3\0\0\0\1\1\1\3"
         "ask\0",
         16, true},                           /* about nobody */
        {"\0\0\0\7\3\0\0\0\0\1\1", 11, true}, /* in pieces */
        {"\0\0\0\7\1\0\0\0\1\0\0", 11, true}, /* HELLO again */
        {"\0\xff\0\0", 4, true},              /* too long */
    };
    struct ht_buf reply = {0}, b = {0};
    uint64_t frame;
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        open_conn();
        if (rows[i].greeted)
            greet();
        struct iovec v = {(void *)(uintptr_t)rows[i].text, rows[i].n};
        CU_ASSERT_EQUAL(io_conn_write(end, &v, 1), (ssize_t)rows[i].n);
        CU_ASSERT_EQUAL(next(&reply, &frame), SPOP_AGENT_DISCONNECT);
        CU_ASSERT_EQUAL(next(&reply, &frame), 0);
        CU_ASSERT_TRUE(closed);
        close_conn();
    }
    /* A health check, an orderly end, and a frame of a later version. */
    open_conn();
    put_hello(&b, true);
    say(&b, 0, ht_buf_size(&b));
    CU_ASSERT(next(&reply, &frame) == SPOP_AGENT_HELLO && next(&reply, &frame) == 0 && closed);
    close_conn();
    open_conn();
    greet();
    struct iovec v[2] = {{(void *)(uintptr_t) "\0\0\0\7\x50\0\0\0\1\1\1", 11},
                         {(void *)(uintptr_t) "\0\0\0\7\2\0\0\0\1\0\0", 11}};
    CU_ASSERT_EQUAL(io_conn_write(end, v, 2), 22);
    CU_ASSERT(next(&reply, &frame) == SPOP_AGENT_DISCONNECT && next(&reply, &frame) == 0 && closed);
    close_conn();
    ht_buf_free(&reply);
    ht_buf_free(&b);
    finish();
}

/* One allocation after the other fails: the connection ends, or the answer is right; nothing is lost. */
static void no_memory(void) {
    struct ht_buf b = {0}, reply = {0};
    uint64_t frame;
    begin();
    make_team();
    set(EDGE_OF_CONTAINER, C, team);
    set(EDGE_OF_CONTAINER, D, team);
    set_hooks(C, HOOKS);
    put_hello(&b, false);
    put_question(&b, "ask", 1, P "-" C, "exec", "/to?a", "Cookie: a=b\r\nx-key: " TOKEN);
    put_question(&b, "login", 2, P "-" C, "exec", "/", basic);
    size_t live = 0;
    for (long i = 0; i < 200; i++) {
        open_conn();
        CU_ASSERT_PTR_NOT_NULL_FATAL(ht_buf_reserve(&got, 16384));
        say(&b, 0, ht_buf_size(&b));
        ht_mem_fail_at(i);
        turns(1);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        for (uint8_t type = 1; type && !(type == SPOP_ACK && frame == 2);)
            if ((type = next(&reply, &frame)) == SPOP_ACK)
                CU_ASSERT(has(&reply, "verdict", "allow") || (frame == 2 && has(&reply, "verdict", "busy")));
        close_conn();
        turns(3);
        if (i == 0)
            live = ht_mem_live();
        CU_ASSERT(ht_mem_live() <= live + 2);
        if (!failed)
            break;
        CU_ASSERT_NOT_EQUAL(i, 199);
    }
    ht_buf_free(&b);
    ht_buf_free(&reply);
    finish();
}

static const struct tap_test tests[] = {
    {"a container's document takes its project's place; one that cannot be read closes everything",
     documents_of_owners},
    {"many owners come and go", many_owners},
    {"hooks come with the answer to who may, and lead nobody where another gate does not let him", hooks_of_containers},
    {"which program has a port: the container's own, or the usual one", programs_have_ports},
    {"passwords: checked beside other questions, remembered, guesses slowed down where they are made", passwords},
    {"questions cut at each byte, and byte by byte", splits},
    {"what is no question ends the connection, in order", what_is_no_question},
    {"each allocation fails", no_memory},
    {NULL, NULL},
};

int main(void) {
    loop = io_loop_create();
    int rc = tap_main("edge, gate", tests);
    turns(2);
    io_loop_destroy(&loop);
    return rc;
}
