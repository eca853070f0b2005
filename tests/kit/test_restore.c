/*
 * Records that are whole and make no sense (a later version may write what this one does not know), and memory that
 * ends while they are read: what cannot be had is left out, and the kit serves.
 */
#include "peer.h"

#include "kit/records.h"
#include "proc/inherit.h"
#include "proc/seal.h"

#define ID(n) "S-00000000-0000-4000-8000-00000000000" #n
#define LONGEST 12u /* lines of one text */

static uint16_t ports[3]; /* that this kit may open */

static void start(const char *args) {
    struct peer p;
    char id[64];
    host_start(args);
    peer_start(&p, id);
    for (size_t i = 0; i < HT_ARRAY_LEN(ports); i++)
        ports[i] = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_bye(&p);
    UNTIL(kit_sessions_live(host.kit) == 0 && kit_websockets(host.kit) == 0);
}

/* A driver comes, has a port, and goes. */
static void expect_service(void) {
    struct peer p;
    char id[64];
    peer_start(&p, id);
    CU_ASSERT(peer_bind(&p, WIRE_KIND_HTTP, 0) != 0);
    peer_bye(&p);
    UNTIL(kit_sessions_live(host.kit) == 0);
}

static int seal(const struct restart_message *lines, size_t n) {
    struct records_writer w = {.lines = 0};
    struct restart_message head = {.seq = 7, .saved = 1, .program = ht_slice_str("hoody-tunnel/9.9.9")};
    struct ht_buf text = {0};
    struct ht_errmsg err = {""};
    for (size_t i = 0; i < n; i++)
        records_add(&w, &lines[i]);
    CU_ASSERT_EQUAL_FATAL(records_finish(&w, &head, &text), HT_OK);
    int fd = proc_seal("records", ht_buf_slice(&text), &err);
    CU_ASSERT_FATAL(fd >= 0);
    ht_buf_free(&text);
    return fd;
}

static void restore_from(int fd) {
    struct proc_inherited one = {.fd = fd, .name = "records-0"};
    struct proc_inheritance in = {.all = &one, .n = 1};
    kit_restore(host.kit, &in, NULL, NULL);
}

static struct restart_message a_session(const char *id) {
    return (struct restart_message){.type = RESTART_SESSION,
                                    .session = ht_slice_str(id),
                                    .driver = ht_slice_str("shop"),
                                    .version = 1,
                                    .next_stream = 2,
                                    .next_bind = 9};
}

static struct restart_message a_binding(uint32_t id, uint16_t port) {
    return (struct restart_message){.type = RESTART_BINDING,
                                    .bind_id = id,
                                    .kind = WIRE_KIND_HTTP,
                                    .mode = WIRE_MODE_EXPOSE,
                                    .port = port,
                                    .address = ht_slice_str("127.0.0.1"),
                                    .since = 1};
}

static struct restart_message a_text(enum restart_type type, const char *text) {
    return (struct restart_message){.type = type, .text = ht_slice_str(text)};
}

/* Restores the lines in a new kit, and returns how many sessions it has of them. Their drivers come back to them, and
 * have what there is. */
static unsigned restored(const char *args, const struct restart_message *lines, size_t n) {
    start(args);
    int fd = seal(lines, n);
    restore_from(fd);
    close(fd);
    unsigned have = kit_sessions_parked(host.kit);
    expect_service();
    for (size_t i = 0; i < n; i++) {
        struct peer p;
        if (lines[i].type != RESTART_SESSION || lines[i].version != 1 || lines[i].session.n != 38)
            continue;
        char id[64];
        snprintf(id, sizeof id, "%.*s", HT_SLICE_ARG(lines[i].session));
        peer_resume(&p, id);
        CU_ASSERT(peer_bind(&p, WIRE_KIND_TCP, 0) != 0);
        peer_bye(&p);
        UNTIL(kit_sessions_live(host.kit) == 0);
    }
    host_stop();
    return have;
}

/* ---- what makes no sense ---- */

static void sessions_that_make_no_sense(void) {
    struct restart_message s = a_session(ID(1));
    CU_ASSERT_EQUAL(restored("", &s, 1), 1);
    s.version = 200;
    CU_ASSERT_EQUAL(restored("", &s, 1), 0);
    s = a_session("S-1");
    CU_ASSERT_EQUAL(restored("", &s, 1), 0);
    s = a_session(ID(1));
    s.next_stream = UINT32_MAX - 1;
    s.next_bind = UINT32_MAX;
    CU_ASSERT_EQUAL(restored("", &s, 1), 1);
    s = a_session(ID(1));
    s.driver = ht_slice_str("a b\x01/..");
    s.peer = ht_slice_str("nowhere");
    CU_ASSERT_EQUAL(restored("", &s, 1), 1);
    s.until = 1;
    CU_ASSERT_EQUAL(restored("", &s, 1), 0); /* its grace is over */
    s.until = INT64_C(9007199254740991);
    CU_ASSERT_EQUAL(restored("", &s, 1), 1); /* for no longer than its grace */
    const struct restart_message twice[] = {a_session(ID(1)), a_session(ID(1)), a_session(ID(2))};
    CU_ASSERT_EQUAL(restored("", twice, 3), 2);
    CU_ASSERT_EQUAL(restored("--takeover-grace 0ms", twice, 3), 0);
    CU_ASSERT_EQUAL(restored("--max-sessions 1", twice, 3), 1);
}

static bool is_open(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool open = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
    return open;
}

/* Wherever it stands, what it had is nobody else's. */
static void ports_of_one_that_is_left_out(void) {
    static const char order[][4] = {"xab", "axb", "abx", "xxa", "xax"};
    for (size_t i = 0; i < HT_ARRAY_LEN(order); i++) {
        struct restart_message m[6];
        start("");
        for (size_t k = 0; k < 3; k++) {
            static const char *const ids[] = {ID(1), ID(2), ID(3)};
            m[2 * k] = a_session(ids[k]);
            m[2 * k].version = order[i][k] == 'x' ? 200 : 1;
            m[2 * k + 1] = a_binding(1, ports[k]);
        }
        int fd = seal(m, HT_ARRAY_LEN(m));
        restore_from(fd);
        close(fd);
        for (size_t k = 0; k < 3; k++)
            CU_ASSERT_EQUAL(is_open(ports[k]), order[i][k] != 'x');
        expect_service();
        host_stop();
    }
}

static void bindings_that_make_no_sense(void) {
    struct restart_message m[4] = {a_session(ID(1))};
    start("");
    uint16_t own = host.port;
    host_stop();
    static const struct {
        uint8_t kind, mode;
    } kinds[] = {{3, 1}, {255, 255}, {1, 3}, {2, 255}, {1, 2}, {2, 1}, {3, 3}};
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++) {
        m[1] = a_binding(1, ports[0]);
        m[1].kind = kinds[i].kind;
        m[1].mode = kinds[i].mode;
        CU_ASSERT_EQUAL(restored("", m, 2), 1);
    }
    static const char *const addresses[] = {"", "192.0.2.1", "nonsense", "::1", "0.0.0.0"};
    for (size_t i = 0; i < HT_ARRAY_LEN(addresses); i++) {
        m[1] = a_binding(1, ports[0]);
        m[1].kind = m[1].mode = 2;
        m[1].address = ht_slice_str(addresses[i]);
        CU_ASSERT_EQUAL(restored("", m, 2), 1);
    }
    const uint16_t numbers[] = {0, 1, 79, 65535, own};
    for (size_t i = 0; i < HT_ARRAY_LEN(numbers); i++) {
        m[1] = a_binding(UINT32_MAX, numbers[i]);
        CU_ASSERT_EQUAL(restored("", m, 2), 1);
    }
    m[1] = a_binding(1, ports[0]);
    m[2] = a_binding(1, ports[0]); /* the same once more */
    m[3] = a_binding(1, ports[1]); /* the same id */
    CU_ASSERT_EQUAL(restored("", m, 4), 1);
    m[1].label = ht_slice_str("a\x01\"b");
    m[1].name = ht_slice_str("not below any domain");
    CU_ASSERT_EQUAL(restored("", m, 2), 1);
}

static void names_that_make_no_sense(void) {
    static const char *const texts[] = {"..",   "*.*",           "a b",          "*", "*:0", "x:99999",
                                        "\x01", "a.example:443", "*.a.example:*"};
    struct restart_message m[LONGEST] = {a_session(ID(1))};
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++) {
        m[1] = a_binding(1, 0);
        m[1].kind = m[1].mode = 2;
        m[2] = a_text(RESTART_NAMED, texts[i]);
        m[3] = a_text(RESTART_CA, "no certificate");
        CU_ASSERT_EQUAL(restored("--connect-proxy 127.0.0.1:0", m, 4), 1);
        CU_ASSERT_EQUAL(restored("", m, 4), 1); /* a kit without a proxy */
        m[1] = a_binding(1, ports[0]);
        m[2] = a_text(RESTART_HOSTNAME, texts[i]);
        CU_ASSERT_EQUAL(restored("--public 127.0.0.1:0 --domain t.localhost", m, 3), 1);
        CU_ASSERT_EQUAL(restored("", m, 3), 1); /* one without a front */
    }
}

/* ---- memory ends ---- */

static void each_allocation_may_fail(void) {
    start("");
    host_stop();
    const struct restart_message lines[] = {
        a_session(ID(1)), a_binding(1, ports[0]), a_binding(2, ports[1]), a_session(ID(2)), a_binding(1, ports[2]),
    };
    long n = 0;
    unsigned all = 0, none = 0;
    for (bool pending = false; n < 1000 && !pending; n++) {
        start("");
        const struct restart_message now[] = {
            lines[0], a_binding(1, ports[0]), a_binding(2, ports[1]), lines[3], a_binding(1, ports[2]),
        };
        int fd = seal(now, HT_ARRAY_LEN(now));
        ht_mem_fail_at(n);
        restore_from(fd);
        pending = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        close(fd);
        unsigned have = kit_sessions_parked(host.kit);
        CU_ASSERT(have <= 2 && (have == 2 || !pending));
        all += have == 2;
        none += have == 0;
        expect_service();
        host_stop();
    }
    printf("# %ld allocations: both sessions %u times, none %u times\n", n, all, none);
    CU_ASSERT(n > 10 && n < 1000 && none > 0);
}

static const struct tap_test tests[] = {
    {"sessions that make no sense", sessions_that_make_no_sense},
    {"the ports of a session that is left out are nobody else's", ports_of_one_that_is_left_out},
    {"bindings that make no sense", bindings_that_make_no_sense},
    {"names that make no sense", names_that_make_no_sense},
    {"each allocation may fail", each_allocation_may_fail},
    {NULL, NULL},
};

int main(void) { return tap_main("what was kept", tests); }
