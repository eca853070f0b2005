/* Bindings by name: who gets which, whose a host and port is, and streams that are opened for those who come by name.
 */
#include "relay/kit_rig.h"

#include "relay/visitor_priv.h"

static struct driver d, e;

static void begin_with(unsigned max_names) {
    rig_start();
    rig.cfg.max_names_per_session = max_names;
    rig_table();
    rig_caps = WIRE_CAP_NAMES;
    drv_start(&d);
    drv_start(&e);
}

static void begin(void) { begin_with(32); }

static void end(void) {
    drv_stop(&d);
    drv_stop(&e);
    rig_caps = 0;
    rig_stop();
}

#define NAMES_MAX 256
static struct ht_slice texts[NAMES_MAX];

/* `names`: with blanks between. Good until the next call. */
static struct wire_bind portless(const char *names) {
    struct wire_bind bind = {
        .kind = WIRE_KIND_TCP, .mode = WIRE_MODE_PULL, .has_portless = true, .portless = true, .names = texts};
    while (*names) {
        size_t n = strcspn(names, " ");
        texts[bind.n_names++] = ht_slice_of(names, n);
        names += n + (names[n] == ' ');
    }
    return bind;
}

static struct wire_bind pull(uint16_t port, const char *names) {
    struct wire_bind bind = portless(names);
    bind.portless = bind.has_portless = false;
    bind.container_port = port;
    return bind;
}

static uint32_t bound(struct driver *who, struct wire_bind bind) {
    struct relay_bound out;
    enum wire_bind_error code;
    CU_ASSERT_EQUAL_FATAL(rig_bind(who, bind, &out, &code), 0);
    CU_ASSERT_EQUAL(out.port == 0, bind.portless);
    return out.bind_id;
}

static void refused(struct driver *who, struct wire_bind bind, enum wire_bind_error want, const char *says) {
    struct relay_bound out;
    struct ht_errmsg err = {""};
    enum wire_bind_error code = WIRE_BIND_ERROR_UNKNOWN;
    unsigned used = rig.fds.used, n = who->owner.n_names;
    CU_ASSERT(relay_bind(rig.table, &who->owner, &bind, &out, &code, &err) < 0);
    if (code != want || !strstr(err.text, says))
        printf("# got %d, expected %d: %s\n", code, want, err.text);
    CU_ASSERT_EQUAL(code, want);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, says));
    CU_ASSERT_EQUAL(rig.fds.used, used);
    CU_ASSERT_EQUAL(who->owner.n_names, n);
}

/* The binding that has it, 0: none; `who` is whose it has to be. */
static uint32_t found(const struct driver *who, const char *host, uint16_t port) {
    struct relay_binding *b;
    enum relay_name_state state = relay_name_find(rig.table, NULL, host, port, &b);
    CU_ASSERT_EQUAL(state == RELAY_NAME_NONE, b == NULL);
    CU_ASSERT(!b || b->owner == &who->owner);
    return b ? b->id : 0;
}

static void test_finding(void) {
    begin();
    uint32_t exact = bound(&d, portless("a.corp.example:443"));
    uint32_t any = bound(&d, portless("a.corp.example:*"));
    uint32_t web = bound(&d, portless("b.corp.example"));
    uint32_t wide = bound(&d, portless("*.example:443"));
    uint32_t longer = bound(&d, portless("*.corp.example:443"));
    uint32_t ports = bound(&d, portless("*.corp.example:*"));
    uint32_t address = bound(&d, portless("10.0.0.1:* [fd00::1]:22"));
    CU_ASSERT_EQUAL(found(&d, "a.corp.example", 443), exact);
    CU_ASSERT_EQUAL(found(&d, "a.corp.example", 80), any);
    CU_ASSERT_EQUAL(found(&d, "b.corp.example", 80), web);
    CU_ASSERT_EQUAL(found(&d, "b.corp.example", 443), web);
    CU_ASSERT_EQUAL(found(&d, "b.corp.example", 22), ports);
    CU_ASSERT_EQUAL(found(&d, "c.corp.example", 443), longer);
    CU_ASSERT_EQUAL(found(&d, "x.y.corp.example", 443), longer);
    CU_ASSERT_EQUAL(found(&d, "x.y.corp.example", 22), ports);
    CU_ASSERT_EQUAL(found(&d, "corp.example", 443), wide);
    CU_ASSERT_EQUAL(found(&d, "x.example", 443), wide);
    CU_ASSERT_EQUAL(found(&d, "x.example", 80), 0);
    CU_ASSERT_EQUAL(found(&d, "example", 443), 0);
    CU_ASSERT_EQUAL(found(&d, "anexample", 443), 0);
    CU_ASSERT_EQUAL(found(&d, "10.0.0.1", 5432), address);
    CU_ASSERT_EQUAL(found(&d, "10.0.0.2", 5432), 0);
    CU_ASSERT_EQUAL(found(&d, "fd00::1", 22), address);
    CU_ASSERT_EQUAL(found(&d, "fd00::1", 23), 0);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, exact), 0);
    CU_ASSERT_EQUAL(found(&d, "a.corp.example", 443), any);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, any), 0);
    CU_ASSERT_EQUAL(found(&d, "a.corp.example", 443), longer);
    end();
}

static void names_and_bindings_that_cannot_be_are_refused(void) {
    begin();
    refused(&d, portless("a..b"), WIRE_BIND_ERROR_INVALID_NAME, "\"a..b\"");
    refused(&d, portless("a.example 0x7f.1"), WIRE_BIND_ERROR_INVALID_NAME, "0x7f.1");
    refused(&d, portless(""), WIRE_BIND_ERROR_INVALID_NAME, "needs a name");
    struct wire_bind bind = portless("a.example");
    bind.container_port = 8083;
    refused(&d, bind, WIRE_BIND_ERROR_INVALID_NAME, "neither a port nor a host");
    bind = portless("a.example");
    bind.has_host = true;
    bind.host = ht_slice_str("::1");
    refused(&d, bind, WIRE_BIND_ERROR_INVALID_NAME, "neither a port nor a host");
    bind = portless("a.example");
    bind.kind = WIRE_KIND_HTTP;
    bind.mode = WIRE_MODE_EXPOSE;
    refused(&d, bind, WIRE_BIND_ERROR_INVALID_KIND, "only a pull");
    bind.portless = false;
    refused(&d, bind, WIRE_BIND_ERROR_INVALID_KIND, "only a pull");
    bind = portless("a.example");
    bind.has_ca = true;
    bind.ca = ht_slice_str("-----BEGIN PRIVATE KEY-----\nTUlJ\n-----END PRIVATE KEY-----\n");
    refused(&d, bind, WIRE_BIND_ERROR_INVALID_CA, "nothing else");
    bind = pull(0, "");
    bind.has_ca = true;
    bind.ca = ht_slice_str("-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n");
    refused(&d, bind, WIRE_BIND_ERROR_INVALID_CA, "has none");
    CU_ASSERT_EQUAL(found(&d, "a.example", 443), 0);
    end();
}

static void test_held(void) {
    begin();
    uint32_t one = bound(&d, portless("a.example b.example:443 *.example:443 A.Example.:443"));
    CU_ASSERT_EQUAL(d.owner.n_names, 4);
    refused(&e, portless("a.example:443"), WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:443 is bound by another session");
    refused(&e, portless("new.example A.EXAMPLE"), WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:80");
    refused(&e, portless("*.example:443"), WIRE_BIND_ERROR_ALREADY_BOUND, "*.example:443");
    refused(&d, portless("b.example:443"), WIRE_BIND_ERROR_ALREADY_BOUND, "by this session");
    refused(&e, pull(0, "b.example:443"), WIRE_BIND_ERROR_ALREADY_BOUND, "b.example:443");
    CU_ASSERT_EQUAL(found(&d, "new.example", 443), one);
    CU_ASSERT_EQUAL(found(&d, "new.example", 80), 0);
    /* Wider and narrower ones are others. */
    uint32_t two = bound(&e, portless("*.example:* b.example:* c.example:443"));
    CU_ASSERT_EQUAL(found(&d, "b.example", 443), one);
    CU_ASSERT_EQUAL(found(&e, "b.example", 444), two);
    CU_ASSERT_EQUAL(found(&e, "c.example", 443), two);
    drv_drop(&d);
    refused(&e, portless("a.example:443"), WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:443");
    relay_owner_drop(rig.table, &d.owner);
    bound(&e, portless("a.example"));
    end();
}

static void a_session_has_a_bounded_number_of_names(void) {
    begin_with(3);
    bound(&d, portless("a.example b.example"));
    refused(&d, portless("c.example d.example"), WIRE_BIND_ERROR_BIND_CAP_EXCEEDED, "3 names");
    uint32_t third = bound(&d, portless("c.example:443"));
    refused(&d, portless("d.example"), WIRE_BIND_ERROR_BIND_CAP_EXCEEDED, "--max-names-per-session");
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, third), 0);
    bound(&d, portless("d.example"));
    bound(&e, portless("e.example"));
    end();
}

/* ---- takeover ---- */

static enum relay_yield answer;
static unsigned asked;

static enum relay_yield yields(struct relay_owner *o, const struct relay_owner *to) {
    CU_ASSERT_PTR_NOT_EQUAL(o, to);
    asked++;
    return answer;
}

static const struct relay_owner_ops yielding = {.revoked = drv_revoked, .yields = yields};

static void test_yielding(void) {
    begin();
    d.owner.ops = &yielding;
    uint32_t lone = bound(&d, portless("a.example x.example"));
    uint32_t other = bound(&d, portless("b.example"));
    struct relay_bound out;
    enum wire_bind_error code;
    answer = RELAY_KEEPS;
    refused(&e, portless("a.example"), WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:80");
    answer = RELAY_PENDING;
    CU_ASSERT_EQUAL(relay_bind(rig.table, &e.owner, &(struct wire_bind){.kind = WIRE_KIND_TCP}, &out, &code, NULL),
                    HT_EINVAL);
    struct ht_errmsg err;
    struct wire_bind both = portless("a.example b.example");
    asked = 0;
    CU_ASSERT_EQUAL(relay_bind(rig.table, &e.owner, &both, &out, &code, &err), HT_EAGAIN);
    CU_ASSERT(asked >= 4); /* all of them at once */
    CU_ASSERT_EQUAL(d.n_revoked, 0);
    CU_ASSERT_EQUAL(found(&d, "a.example", 443), lone);
    CU_ASSERT_EQUAL(found(&d, "b.example", 443), other);
    answer = RELAY_YIELDS;
    uint32_t mine = bound(&e, portless("a.example b.example"));
    CU_ASSERT_EQUAL(d.n_revoked, 2);
    CU_ASSERT_EQUAL(d.owner.n_bindings, 0);
    CU_ASSERT_EQUAL(d.owner.n_names, 0);
    CU_ASSERT_EQUAL(found(&e, "a.example", 443), mine);
    CU_ASSERT_EQUAL(found(&e, "x.example", 443), 0); /* the binding went as a whole */
    end();
}

/* A port changes hands with its listener; its names are those of the new BIND. */
static void test_port_and_names(void) {
    begin();
    d.owner.ops = &yielding;
    struct relay_bound out;
    enum wire_bind_error code;
    CU_ASSERT_EQUAL_FATAL(rig_bind(&d, pull(0, "a.example b.example"), &out, &code), 0);
    uint16_t port = out.port;
    unsigned used = rig.fds.used;
    answer = RELAY_YIELDS;
    CU_ASSERT_EQUAL_FATAL(rig_bind(&e, pull(port, "a.example c.example"), &out, &code), 0);
    CU_ASSERT_EQUAL(out.port, port);
    CU_ASSERT_EQUAL(rig.fds.used, used);
    CU_ASSERT_EQUAL(d.n_revoked, 1);
    CU_ASSERT_EQUAL(d.owner.n_names, 0);
    CU_ASSERT_EQUAL(e.owner.n_names, 2);
    CU_ASSERT_EQUAL(found(&e, "a.example", 443), out.bind_id);
    CU_ASSERT_EQUAL(found(&e, "c.example", 443), out.bind_id);
    CU_ASSERT_EQUAL(found(&e, "b.example", 443), 0);
    end();
}

/* A session that may have no more bindings takes nothing from anybody. */
static void test_full(void) {
    begin();
    d.owner.ops = &yielding;
    uint32_t held = bound(&d, portless("a.example"));
    char text[32];
    for (unsigned i = 0; i < rig.cfg.max_bindings_per_session; i++) {
        snprintf(text, sizeof text, "n%u.example", i);
        bound(&e, portless(text));
    }
    answer = RELAY_YIELDS;
    refused(&e, portless("a.example"), WIRE_BIND_ERROR_BIND_CAP_EXCEEDED, "--max-bindings-per-session");
    CU_ASSERT_EQUAL(found(&d, "a.example", 443), held);
    end();
}

static void test_moving(void) {
    begin();
    uint32_t id = bound(&d, portless("a.example"));
    struct relay_owner to;
    relay_owner_init(&to, NULL);
    drv_drop(&d);
    struct relay_binding *b;
    CU_ASSERT_EQUAL(relay_name_find(rig.table, NULL, "a.example", 443, &b), RELAY_NAME_PARKED);
    relay_owner_move(rig.table, &d.owner, &to);
    CU_ASSERT_EQUAL(to.n_names, 1);
    CU_ASSERT_EQUAL(d.owner.n_names, 0);
    to.mux = e.s;
    CU_ASSERT_EQUAL(relay_name_find(rig.table, NULL, "a.example", 443, &b), RELAY_NAME_LIVE);
    CU_ASSERT_PTR_EQUAL(b->owner, &to);
    CU_ASSERT_EQUAL(b->id, id);
    relay_owner_drop(rig.table, &to);
    end();
}

/* ---- what is seen ---- */

static char seen[512];

static void see(void *ctx, const struct relay_binding_info *info) {
    (void)ctx;
    size_t at = strlen(seen);
    at += (size_t)snprintf(seen + at, sizeof seen - at, "%u %u %s %u ca %zu:", info->bind_id, info->port,
                           info->bind_addr, info->visitors, info->ca.n);
    for (size_t i = 0; i < info->n_names; i++)
        at += (size_t)snprintf(seen + at, sizeof seen - at, " %.*s", HT_SLICE_ARG(info->names[i]));
    snprintf(seen + at, sizeof seen - at, "\n");
}

static void test_seen(void) {
    static const char pem[] = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n";
    begin();
    struct wire_bind bind = portless("A.Example *.corp.example:* a.example");
    bind.has_ca = true;
    bind.ca = ht_slice_str(pem);
    bound(&d, bind);
    seen[0] = '\0';
    relay_each_binding(rig.table, &d.owner, see, NULL);
    char want[128];
    snprintf(want, sizeof want, "1 0  0 ca %zu: a.example *.corp.example:*\n", sizeof pem - 1);
    CU_ASSERT_STRING_EQUAL(seen, want);
    end();
}

/* ---- streams ---- */

struct caller {
    struct relay_name_visitor v;
    struct mux_stream *st;
    int gone; /* the code; -1: not */
    unsigned connected;
    int closed;
};

static void gone(struct relay_name_visitor *v, uint16_t code, const char *reason) {
    struct caller *c = ht_container_of(v, struct caller, v);
    c->gone = code;
    CU_ASSERT(v->b == NULL && reason[0]);
    if (c->st) {
        mux_stream_reset(c->st, code, reason);
        mux_stream_release(&c->st);
    }
}

static void stream_connected(void *ctx) { ((struct caller *)ctx)->connected++; }
static void stream_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    (void)reason, (void)remote;
    ((struct caller *)ctx)->closed = code;
}

static const struct relay_name_visitor_ops visitor_ops = {.gone = gone};
static const struct mux_stream_ops call_ops = {.connected = stream_connected, .closed = stream_closed};

static struct caller call(const char *host, uint16_t port) {
    struct relay_binding *b;
    struct caller c = {.gone = -1, .closed = -1};
    CU_ASSERT_EQUAL_FATAL(relay_name_find(rig.table, NULL, host, port, &b), RELAY_NAME_LIVE);
    c.v.b = b;
    return c;
}

static void opened(struct caller *c, const char *host, uint16_t port) {
    relay_name_enter(&c->v, c->v.b, &visitor_ops);
    CU_ASSERT_EQUAL_FATAL(relay_name_open(&c->v, host, port, "10.0.0.9:1", &call_ops, c, &c->st), 0);
}

static void connected(uint32_t id) {
    uint8_t f[WIRE_LIMIT_HEADER];
    CU_ASSERT_FATAL(wire_encode_stream_connected(f, sizeof f, id) > 0);
    drv_frame(&d, f, sizeof f);
    drv_send(&d);
}

static void a_stream_by_name_carries_its_authority_and_waits(void) {
    begin();
    uint32_t id = bound(&d, portless("*.example:443 [fd00::1]:22"));
    struct caller c = call("a.example", 443), x = call("fd00::1", 22), y = call("b.example", 443);
    opened(&c, "a.example", 443);
    opened(&x, "fd00::1", 22);
    opened(&y, "b.example", 443);
    UNTIL(d.n_streams == 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(d.streams[0].open, "\"authority\":\"a.example:443\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(d.streams[0].open, "\"kind\":\"tcp\""));
    CU_ASSERT_PTR_NULL(strstr(d.streams[0].open, "containerPort"));
    CU_ASSERT_PTR_NOT_NULL(strstr(d.streams[1].open, "\"authority\":\"[fd00::1]:22\""));
    connected(d.streams[0].id);
    CU_ASSERT_EQUAL(c.connected, 1);
    drv_text(&d, d.streams[1].id, "too early"); /* NAME-7 */
    drv_send(&d);
    CU_ASSERT_EQUAL(x.closed, WIRE_CODE_PROTOCOL_ERROR);
    connected(d.streams[0].id); /* a second time */
    CU_ASSERT_EQUAL(c.closed, WIRE_CODE_PROTOCOL_ERROR);
    CU_ASSERT_EQUAL(c.connected, 1);
    mux_stream_release(&c.st);
    relay_name_leave(&c.v);
    relay_name_leave(&c.v);
    mux_stream_release(&x.st);
    relay_name_leave(&x.v);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, id), 0);
    CU_ASSERT_EQUAL(y.gone, WIRE_CODE_BIND_ERROR);
    UNTIL(d.streams[2].reset == WIRE_CODE_BIND_ERROR);
    end();
}

static void test_streams_of_a_takeover(void) {
    begin();
    d.owner.ops = &yielding;
    struct relay_bound out;
    enum wire_bind_error code;
    CU_ASSERT_EQUAL_FATAL(rig_bind(&d, pull(0, "a.example"), &out, &code), 0);
    struct caller c = call("a.example", 443);
    opened(&c, "a.example", 443);
    UNTIL(d.n_streams == 1);
    answer = RELAY_YIELDS;
    CU_ASSERT_EQUAL_FATAL(rig_bind(&e, pull(out.port, "a.example"), &out, &code), 0);
    CU_ASSERT_EQUAL(c.gone, WIRE_CODE_BIND_TAKEOVER);
    UNTIL(d.streams[0].reset == WIRE_CODE_BIND_TAKEOVER);
    end();
}

/* A plain connection of the same binding has no authority, and nothing is due on it. */
static void test_beside_the_port(void) {
    begin();
    struct relay_bound out;
    enum wire_bind_error code;
    CU_ASSERT_EQUAL_FATAL(rig_bind(&d, pull(0, "a.example"), &out, &code), 0);
    struct visitor v = vis_connect_to("127.0.0.1", out.port);
    UNTIL(d.n_streams == 1);
    CU_ASSERT_PTR_NULL(strstr(d.streams[0].open, "authority"));
    drv_text(&d, d.streams[0].id, "hello");
    drv_send(&d);
    UNTIL(vis_got(&v) == 5);
    vis_close(&v);
    end();
}

/* ---- many ---- */

static size_t longest_chain(const struct relay_name_index *x) {
    size_t longest = 0;
    for (size_t i = 0; i < x->n_buckets; i++) {
        size_t n = 0;
        for (const struct relay_name *it = x->bucket[i]; it; it = it->next)
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

static void ten_thousand_names_are_registered_and_found(void) {
    static char names[NAMES_MAX][64];
    rig_start();
    rig.cfg.max_names_per_session = 10240;
    rig.cfg.max_bindings_per_session = 64;
    rig_table();
    rig_caps = WIRE_CAP_NAMES;
    drv_start(&d);
    drv_start(&e);
    for (unsigned i = 0; i < 40; i++) {
        struct wire_bind bind = portless("");
        for (unsigned j = 0; j < NAMES_MAX; j++) {
            snprintf(names[j], sizeof names[j], "%shost-%u.group%u.example:%u", j % 2 ? "*." : "", j, i, 1000 + j);
            texts[bind.n_names++] = ht_slice_str(names[j]);
        }
        bound(&d, bind);
    }
    CU_ASSERT_EQUAL(d.owner.n_names, 10240);
    CU_ASSERT_EQUAL(rig.table->names.used, 10240);
    CU_ASSERT(longest_chain(&rig.table->names) <= 16); /* a look-up costs no more than with a few */
    CU_ASSERT_EQUAL(found(&d, "host-0.group7.example", 1000), 8);
    CU_ASSERT_EQUAL(found(&d, "a.b.host-255.group39.example", 1255), 40);
    CU_ASSERT_EQUAL(found(&d, "host-255.group39.example", 1255), 0);
    CU_ASSERT_EQUAL(found(&d, "host-0.group7.example", 1001), 0);
    end();
}

static void any_allocation_may_fail(void) {
    for (long i = 0; i < 12; i++) {
        begin();
        ht_mem_fail_at(i);
        struct relay_bound out;
        enum wire_bind_error code;
        if (rig_bind(&d, portless("a.example b.example"), &out, &code))
            CU_ASSERT_EQUAL(code, WIRE_BIND_ERROR_INTERNAL);
        ht_mem_fail_at(-1);
        end();
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"whose a host and port is", test_finding},
        {"names and bindings that cannot be are refused with a reason", names_and_bindings_that_cannot_be_are_refused},
        {"names that are held", test_held},
        {"a session has a bounded number of names", a_session_has_a_bounded_number_of_names},
        {"names that are given up", test_yielding},
        {"a port with names changes hands", test_port_and_names},
        {"a full session takes nothing away", test_full},
        {"parked and handed over", test_moving},
        {"what the admin sees", test_seen},
        {"a stream by name carries its authority, and waits for STREAM_CONNECTED",
         a_stream_by_name_carries_its_authority_and_waits},
        {"streams of a binding that is taken over", test_streams_of_a_takeover},
        {"connections to the port beside them", test_beside_the_port},
        {"ten thousand names are registered and found", ten_thousand_names_are_registered_and_found},
        {"any allocation may fail", any_allocation_may_fail},
        {NULL, NULL},
    };
    return tap_main("relay names", tests);
}
