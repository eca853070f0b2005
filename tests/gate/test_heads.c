/* What the gate makes of heads: header rules, Host and Origin, fields about the visitor, and whose request it is. */
#include "gate/forwarded.h"
#include "gate/rules.h"
#include "gate/visitor.h"

#include "base/mem.h"
#include "http/http.h"
#include "support/tap.h"

#include <stdio.h>

#define S(text) ht_slice_str(text)

/* Fields "name: value", one a line, as one text. */
static const char *show(const struct wire_header *h, ssize_t n) {
    static char out[4096];
    size_t at = 0;
    out[0] = '\0';
    for (ssize_t i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, sizeof out - at, "%.*s: %.*s\n", HT_SLICE_ARG(h[i].name),
                               HT_SLICE_ARG(h[i].value));
    return out;
}

static void rules_are_carried_out(void) {
    static const char *const texts[] = {"X-A: 1", "+X-B:  2 ", "-Cookie", "+x-a: 3", "X-B: 4"};
    struct wire_header h[8] = {
        {S("x-a"), S("old")}, {S("cookie"), S("c")}, {S("X-A"), S("older")}, {S("keep"), S("k")}};
    struct gate_rules r;
    CU_ASSERT_EQUAL_FATAL(gate_rules_parse(&r, texts, HT_ARRAY_LEN(texts), true, NULL), 0);
    ssize_t n = gate_rules_apply(&r, h, 4, HT_ARRAY_LEN(h));
    CU_ASSERT_STRING_EQUAL(show(h, n), "keep: k\nx-a: 1\nx-a: 3\nx-b: 4\n");
    CU_ASSERT_EQUAL(gate_rules_apply(&r, h, 4, 4), HT_ESPACE);
    gate_rules_free(&r);
}

static void rules_are_refused(void) {
    static const struct {
        const char *text, *says;
        bool answers_too;
    } rows[] = {
        {"", "no name", true},
        {":", "no name", true},
        {": x", "no name", true},
        {"+", "no name", true},
        {"-", "no name", true},
        {"a b: c", "no name", true},
        {"a\r\nb: c", "no name", true},
        {"a: b\r\nc: d", "character that a header cannot carry", true},
        {"a: b\nc", "character that a header cannot carry", true},
        {"a: \x01", "character that a header cannot carry", true},
        {"a:", "removes it", true},
        {"a:  ", "removes it", true},
        {"-a:", "no colon", true},
        {"Content-Length: 1", "where a message ends", true},
        {"-content-length", "where a message ends", true},
        {"Transfer-Encoding: x", "one connection", true},
        {"TE: trailers", "one connection", true},
        {"Trailer: x", "one connection", true},
        {"Connection: close", "one connection", true},
        {"+Upgrade: h2c", "one connection", true},
        {"Keep-Alive: x", "one connection", true},
        {"Proxy-Connection: x", "one connection", true},
        {"Expect: 100-continue", "where a message ends", true},
        {"Sec-WebSocket-Accept: x", "handshake", true},
        {"Host: x", "--host-header", false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++)
        for (int request = 0; request < 2; request++) {
            struct gate_rules r;
            struct ht_errmsg e = {""};
            int rc = gate_rules_parse(&r, &rows[i].text, 1, request, &e);
            CU_ASSERT_EQUAL(rc, request || rows[i].answers_too ? HT_EINVAL : 0);
            CU_ASSERT(rc == 0 || strstr(e.text, rows[i].says));
            gate_rules_free(&r);
        }
    const char *many[GATE_RULES_MAX + 1];
    struct gate_rules r;
    for (size_t i = 0; i < HT_ARRAY_LEN(many); i++)
        many[i] = "a: b";
    CU_ASSERT_EQUAL(gate_rules_parse(&r, many, HT_ARRAY_LEN(many), true, NULL), HT_EINVAL);
    gate_rules_free(&r);
    CU_ASSERT_EQUAL(gate_rules_parse(&r, many, GATE_RULES_MAX, true, NULL), 0);
    gate_rules_free(&r);
}

static struct gate_nets nets(const char *text) {
    struct gate_nets n;
    CU_ASSERT_EQUAL(gate_nets_parse(&n, &text, 1, NULL), 0);
    return n;
}

static void networks(void) {
    static const char *const bad[] = {"",  ",",           "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/8 x",
                                      "a", "10.0.0.1/-1", "1.2.3"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct gate_nets n;
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(gate_nets_parse(&n, &bad[i], 1, &e), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "is not a network"));
        gate_nets_free(&n);
    }
    static const struct {
        const char *nets, *addr;
        bool in;
    } rows[] = {
        {"10.0.0.0/8", "10.255.1.2", true},       {"10.0.0.0/8", "11.0.0.0", false},
        {"192.0.2.7, ::1", "::1", true},          {"192.0.2.7,::1", "192.0.2.8", false},
        {"2001:db8::/32", "2001:db8:f::1", true}, {"0.0.0.0/0", "::1", false},
        {"10.0.0.0/8", "::ffff:10.1.1.1", true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct gate_nets n = nets(rows[i].nets);
        struct io_addr a;
        CU_ASSERT_EQUAL(io_addr_parse(&a, rows[i].addr, 0), 0);
        CU_ASSERT_EQUAL(gate_nets_have(&n, &a), rows[i].in);
        gate_nets_free(&n);
    }
}

static void whose_request_it_is(void) {
    static const struct {
        const char *edges, *peer, *lists[2], *visitor; /* NULL: unknown */
    } rows[] = {
        {"10.0.0.0/8", "203.0.113.9:4711", {"198.51.100.1"}, "203.0.113.9"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"198.51.100.1"}, "198.51.100.1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"1.1.1.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"1.1.1.1", "10.0.0.3"}, "1.1.1.1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"2001:db8::1"}, "2001:db8::1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"[2001:db8::1]:99"}, "2001:db8::1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {"198.51.100.1:80"}, "198.51.100.1"},
        {"::1", "[::1]:4711", {" 198.51.100.1\t"}, "198.51.100.1"},
        {"10.0.0.0/8", "10.0.0.1:4711", {NULL}, NULL},
        {"10.0.0.0/8", "10.0.0.1:4711", {"10.0.0.2"}, NULL},
        {"10.0.0.0/8", "10.0.0.1:4711", {"198.51.100.1, who"}, NULL},
        {"10.0.0.0/8", "10.0.0.1:4711", {"198.51.100.1,"}, NULL},
        {"10.0.0.0/8", "10.0.0.1:4711", {"198.51.100.1, ,10.0.0.3"}, NULL},
        {"10.0.0.0/8", "local", {"198.51.100.1"}, NULL},
        {"10.0.0.0/8", "", {"198.51.100.1"}, NULL},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct gate_nets edges = nets(rows[i].edges);
        struct wire_header h[2];
        struct wire_stream_open open = {.headers = h, .has_peer_addr = *rows[i].peer, .peer_addr = S(rows[i].peer)};
        for (; open.n_headers < 2 && rows[i].lists[open.n_headers]; open.n_headers++)
            h[open.n_headers] = (struct wire_header){S("x-forwarded-for"), S(rows[i].lists[open.n_headers])};
        struct gate_visitor v;
        char text[IO_ADDR_TEXT] = "";
        gate_visitor_read(&v, &open, &edges);
        if (v.known)
            io_addr_host(&v.addr, text);
        if (v.known != (rows[i].visitor != NULL) || (v.known && strcmp(text, rows[i].visitor) != 0))
            printf("# row %zu: %s\n", i, v.known ? text : "unknown");
        CU_ASSERT(v.known == (rows[i].visitor != NULL) && (!v.known || strcmp(text, rows[i].visitor) == 0));
        gate_nets_free(&edges);
    }
}

/* Each row: what came, and what the service gets. */
static void what_the_service_gets(void) {
    static const struct {
        struct gate_forward f;
        bool edge;
        const char *came[6][2], *gets;
    } rows[] = {
        {{.visited = "v.example"},
         false,
         {{"host", "v.example"}, {"x-forwarded-for", "1.1.1.1"}},
         "host: v.example\nx-forwarded-for: 1.1.1.1\n"},
        {{.host = "h:1", .visited = "v.example"}, false, {{"a", "b"}, {"host", "v.example"}}, "host: h:1\na: b\n"},
        {{.host = "h:1", .visited = ""}, false, {{"a", "b"}}, "host: h:1\na: b\n"},
        {{.host = "h:1", .visited = "v.example"},
         false,
         {{"origin", "https://V.example"}},
         "host: h:1\norigin: http://h:1\n"},
        {{.host = "h:1", .visited = "v.example", .secure = true},
         false,
         {{"origin", "http://v.example"}},
         "host: h:1\norigin: https://h:1\n"},
        {{.host = "h:1", .visited = "v.example"},
         false,
         {{"origin", "https://v.example.evil"}},
         "host: h:1\norigin: https://v.example.evil\n"},
        {{.host = "h:1", .visited = "v.example"}, false, {{"origin", "null"}}, "host: h:1\norigin: null\n"},
        {{.visited = "v.example"}, false, {{"origin", "https://v.example"}}, "origin: https://v.example\n"},
        {{.set = true, .visited = "v.example:81", .https = true},
         false,
         {{"host", "v.example:81"}, {"Forwarded", "for=x"}, {"x_real_ip", "1.1.1.1"}, {"x-forwarded-anything", "y"}},
         "host: v.example:81\nx-forwarded-for: 10.0.0.1\nx-forwarded-host: v.example:81\nx-forwarded-proto: https\n"
         "x-forwarded-port: 81\nforwarded: for=10.0.0.1;host=\"v.example:81\";proto=https\n"},
        {{.set = true, .visited = ""},
         false,
         {{"a", "b"}},
         "a: b\nx-forwarded-for: 10.0.0.1\nx-forwarded-proto: http\nx-forwarded-port: 80\nforwarded: "
         "for=10.0.0.1;proto=http\n"},
        {{.set = true, .visited = "v\"x"},
         false,
         {{"a", "b"}},
         "a: b\nx-forwarded-for: 10.0.0.1\nx-forwarded-host: v\"x\nx-forwarded-proto: http\nx-forwarded-port: 80\n"
         "forwarded: for=10.0.0.1;proto=http\n"},
        {{.set = true, .visited = "v.example"},
         true,
         {{"x-forwarded-for", "1.1.1.1"},
          {"x-forwarded-for", "2.2.2.2"},
          {"x-forwarded-proto", "https"},
          {"x-real-ip", "1.1.1.1"},
          {"forwarded", "for=1.1.1.1"}},
         "x-forwarded-proto: https\nx-real-ip: 1.1.1.1\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.1\nx-forwarded-host: "
         "v.example\n"
         "x-forwarded-port: 80\nforwarded: for=1.1.1.1, for=10.0.0.1;host=\"v.example\";proto=http\n"},
        {{.set = true, .visited = "v.example"},
         true,
         {{"x-forwarded-for", "1.1.1.1, 10.0.0.1"},
          {"x-forwarded-host", "e"},
          {"x-forwarded-port", "1"},
          {"x-forwarded-proto", "http"}},
         "x-forwarded-host: e\nx-forwarded-port: 1\nx-forwarded-proto: http\nx-forwarded-for: 1.1.1.1, 10.0.0.1\n"
         "forwarded: for=10.0.0.1;host=\"v.example\";proto=http\n"},
    };
    struct ht_buf text = {0};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct gate_nets edges = nets(rows[i].edge ? "10.0.0.1" : "10.0.0.2");
        struct wire_header h[6], out[16];
        struct wire_stream_open open = {.headers = h, .has_peer_addr = true, .peer_addr = S("10.0.0.1:9")};
        for (; open.n_headers < 6 && rows[i].came[open.n_headers][0]; open.n_headers++)
            h[open.n_headers] =
                (struct wire_header){S(rows[i].came[open.n_headers][0]), S(rows[i].came[open.n_headers][1])};
        struct gate_visitor v;
        gate_visitor_read(&v, &open, &edges);
        ssize_t n = gate_forwarded_put(&rows[i].f, &v, &open, &text, out, HT_ARRAY_LEN(out));
        CU_ASSERT_STRING_EQUAL(show(out, n), rows[i].gets);
        if (n >= 0 && strcmp(show(out, n), rows[i].gets) != 0)
            printf("# row %zu:\n%s", i, show(out, n));
        for (ssize_t cap = 0; cap < n; cap++)
            CU_ASSERT_EQUAL(gate_forwarded_put(&rows[i].f, &v, &open, &text, out, (size_t)cap), HT_ESPACE);
        gate_nets_free(&edges);
    }
    ht_buf_free(&text);
}

static const struct tap_test tests[] = {
    {"header rules set, add and remove, in their order", rules_are_carried_out},
    {"header rules that frame a message, split it or say nothing are refused", rules_are_refused},
    {"networks are read and matched", networks},
    {"the visitor is whom the last trusted edge names", whose_request_it_is},
    {"Host, Origin and the fields about the visitor", what_the_service_gets},
    {NULL, NULL},
};

int main(void) { return tap_main("gate, heads", tests); }
