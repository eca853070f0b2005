/* Hooks: what they do to requests, each mistake of a document, and who tries to make them do more. */
#include "base/mem.h"
#include "edge/hooks_edit.h"
#include "edge/hooks_priv.h"
#include "support/tap.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define NOW UINT64_C(2000000000)
#define C "890abcdef12345678901cdef"
#define D "0123456789abcdef01234567"

static struct edge_hooks *hooks_of(const char *text) {
    struct ht_errmsg e = {""};
    int rc;
    struct edge_hooks *h = edge_hooks_create(ht_slice_str(text), &rc, &e);
    if (!h)
        printf("# %s: %s\n", text, e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(h);
    return h;
}

static struct edge_hook_visit visit(const char *method, const char *target, const char *heads, const char *addr) {
    struct edge_hook_visit v = {.container = ht_slice_str(C),
                                .program = ht_slice_str("http"),
                                .index = 3000,
                                .method = ht_slice_str(method),
                                .target = ht_slice_str(target),
                                .heads = ht_slice_str(heads)};
    v.family = strchr(addr, ':') ? 6 : *addr ? 4 : 0;
    if (v.family)
        CU_ASSERT_EQUAL(inet_pton(v.family == 4 ? AF_INET : AF_INET6, addr, v.addr), 1);
    return v;
}

/* What becomes of a request, in a line: records as what:name=value, then the rest. */
static char said[20000];

static void say_records(const char *what, const struct ht_buf *b) {
    const uint8_t *p = ht_buf_head(b), *end = p + ht_buf_size(b);
    size_t n = strlen(said);
    while (p < end) {
        int name = p[1], value = p[2 + name] << 8 | p[3 + name];
        n += (size_t)snprintf(said + n, sizeof said - n, "%s%c:%.*s=%.*s|", what, p[0], name, (const char *)p + 2,
                              value, (const char *)p + 4 + name);
        p += 4 + name + value;
    }
    CU_ASSERT(p == end);
}

static const char *run_visit(const struct edge_hooks *h, const struct edge_hook_visit *v) {
    struct edge_hooked o = {.fault = 0};
    said[0] = '\0';
    CU_ASSERT_EQUAL(edge_hooks_run(h, v, NOW, &o), HT_OK);
    say_records("", &o.request);
    say_records("<", &o.response);
    size_t n = strlen(said);
    if (o.has_path)
        n += (size_t)snprintf(said + n, sizeof said - n, "path=%.*s|", HT_SLICE_ARG(ht_buf_slice(&o.path)));
    if (o.forwards)
        n +=
            (size_t)snprintf(said + n, sizeof said - n, "to=%s,%.*s,%u|", o.to, HT_SLICE_ARG(o.to_program), o.to_index);
    if (o.timeout_ms)
        n += (size_t)snprintf(said + n, sizeof said - n, "timeout=%u|", o.timeout_ms);
    if (o.fault)
        snprintf(said, sizeof said, "fault|");
    edge_hooked_free(&o);
    return said;
}

static const char *run(const struct edge_hooks *h, const char *method, const char *target, const char *heads,
                       const char *addr) {
    struct edge_hook_visit v = visit(method, target, heads, addr);
    return run_visit(h, &v);
}

static void expect(const char *got, const char *want) {
    if (strcmp(got, want) != 0)
        printf("# got %s\n# not %s\n", got, want);
    CU_ASSERT_STRING_EQUAL(got, want);
}

/* One hook of http with this match and these actions. */
static struct edge_hooks *one(const char *match, const char *actions) {
    char text[8000];
    snprintf(text, sizeof text, "{\"http\":[{\"id\":\"a\",\"match\":{%s},\"actions\":[%s]}]}", match, actions);
    return hooks_of(text);
}

#define MARK "{\"set\":{\"x\":\"1\"}}"

static void looks(void) {
    static const struct {
        const char *match, *method, *target, *heads, *addr;
        bool fits;
    } rows[] = {
        {"", "GET", "/", "", "", true},
        {"\"method\":\"GET\"", "GET", "/", "", "", true},
        {"\"method\":\"GET\"", "POST", "/", "", "", false},
        {"\"method\":[\"GET\",\"M-SEARCH\"]", "M-SEARCH", "/", "", "", true},
        {"\"method\":\"GET\"", "get", "/", "", "", false},
        {"\"index\":3000", "GET", "/", "", "", true},
        {"\"index\":[1,2]", "GET", "/", "", "", false},
        {"\"ip\":\"203.0.113.0/24\"", "GET", "/", "", "203.0.113.9", true},
        {"\"ip\":\"203.0.113.0/24\"", "GET", "/", "", "203.0.114.9", false},
        {"\"ip\":\"203.0.113.0/24\"", "GET", "/", "", "", false},
        {"\"ip\":[\"2001:db8::/32\"]", "GET", "/", "", "2001:db8::1", true},
        {"\"headers\":{\"X-A\":true}", "GET", "/", "x-a: \r\n", "", true},
        {"\"headers\":{\"x-a\":true}", "GET", "/", "x-b: x-a: 1\r\n", "", false},
        {"\"headers\":{\"x-a\":false}", "GET", "/", "X-A: 1\r\n", "", false},
        {"\"headers\":{\"x-a\":false}", "GET", "/", "", "", true},
        {"\"headers\":{\"x-a\":\"one\"}", "GET", "/", "X-A:  one \r\n", "", true},
        {"\"headers\":{\"x-a\":\"one\"}", "GET", "/", "x-a: two\r\nx-a: one\r\n", "", true},
        {"\"headers\":{\"x-a\":\"one\"}", "GET", "/", "x-a: One\r\n", "", false},
        {"\"headers\":{\"x-a\":\"o*e\"}", "GET", "/", "x-a: oe\r\n", "", true},
        {"\"headers\":{\"x-a\":\"oo*oo\"}", "GET", "/", "x-a: ooo\r\n", "", false},
        {"\"headers\":{\"x-a\":\"*\",\"x-b\":\"2\"}", "GET", "/", "x-b: 2\r\nx-a: 1\r\n", "", true},
        {"\"headers\":{\"x-a\":\"*\",\"x-b\":\"2\"}", "GET", "/", "x-b: 2\r\n", "", false},
        {"\"path\":\"/a\"", "GET", "/a?b", "", "", true},
        {"\"path\":\"/a\"", "GET", "/a/", "", "", false},
        {"\"path\":{\"exact\":\"/*\"}", "GET", "/*", "", "", true},
        {"\"path\":{\"exact\":\"/*\"}", "GET", "/a", "", "", false},
        {"\"path\":{\"prefix\":\"/a\"}", "GET", "/a", "", "", true},
        {"\"path\":{\"prefix\":\"/a\"}", "GET", "/a/b", "", "", true},
        {"\"path\":{\"prefix\":\"/a\"}", "GET", "/ab", "", "", false},
        {"\"path\":{\"prefix\":\"/a/\"}", "GET", "/a", "", "", true},
        {"\"path\":{\"prefix\":\"/\"}", "GET", "/ab", "", "", true},
        {"\"path\":\"/a/*/c\"", "GET", "/a/b/c", "", "", true},
        {"\"path\":\"/a/*/c\"", "GET", "/a/b/b/c", "", "", false},
        {"\"path\":\"/a/*/c\"", "GET", "/a//c", "", "", false},
        {"\"path\":\"/a/*/\"", "GET", "/a/b/", "", "", true},
        {"\"path\":\"/a/*\"", "GET", "/a/", "", "", false},
        {"\"path\":\"/a/x*y/**\"", "GET", "/a/x1y/", "", "", true},
        {"\"path\":\"/a/x*y/**\"", "GET", "/a/x1y", "", "", false},
        {"\"path\":\"/a/x*y\"", "GET", "/a/xy", "", "", false},
        {"\"path\":\"/**\"", "GET", "/", "", "", true},
        {"\"path\":\"/**\"", "OPTIONS", "*", "", "", false},
        {"\"path\":\"/**\"", "GET", "", "", "", false},
        /* However it is written. */
        {"\"path\":\"/admin\"", "GET", "/%61dm%69n", "", "", true},
        {"\"path\":\"/admin\"", "GET", "//admin", "", "", true},
        {"\"path\":\"/admin\"", "GET", "/./admin", "", "", true},
        {"\"path\":\"/admin\"", "GET", "/x/../admin", "", "", true},
        {"\"path\":\"/admin\"", "GET", "/x/%2E./admin", "", "", true},
        {"\"path\":\"/admin\"", "GET", "/../../admin", "", "", true},
        {"\"path\":\"/admin/x\"", "GET", "/admin%2fx", "", "", true},
        {"\"path\":\"/admin\"", "GET", "/admin%00", "", "", false},
        {"\"path\":\"/a%20b\"", "GET", "/a%20b", "", "", true},
        {"\"path\":\"/a%2Bb\"", "GET", "/a%2bb", "", "", true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct edge_hooks *h = one(rows[i].match, MARK);
        const char *got = run(h, rows[i].method, rows[i].target, rows[i].heads, rows[i].addr);
        if (strcmp(got, rows[i].fits ? "s:x=1|" : "") != 0)
            printf("# %s %s %s\n", rows[i].match, rows[i].target, rows[i].heads);
        expect(got, rows[i].fits ? "s:x=1|" : "");
        edge_hooks_destroy(&h);
    }
}

static void acts(void) {
    static const struct {
        const char *match, *actions, *target, *want;
    } rows[] = {
        {"\"path\":\"/u-*/f/**\"", "{\"set\":{\"X-A\":\"${1} of ${2}\",\"x-b\":\"$ {1} $\"}}", "/u-7/f/a/b",
         "s:x-a=7 of a/b|s:x-b=$ {1} $|"},
        {"\"path\":{\"prefix\":\"/a\"}", "{\"add\":{\"x-a\":\"${1}${path}${method}${client}\"}}", "/a/b?c",
         "a:x-a=/b/a/bGET203.0.113.7|"},
        {"", "{\"del\":[\"x-a\",\"X-B\"]},{\"on\":\"response\",\"del\":\"server\"}", "/", "d:x-a=|d:x-b=|<d:server=|"},
        {"", "{\"set\":{\"set-cookie\":\"a=b\"},\"on\":\"response\"}", "/", "<s:set-cookie=a=b|"},
        {"", "{\"path\":{\"prefix\":\"/v1\",\"to\":\"/v2/x\"}}", "/v1/a?q=../", "path=/v2/x/a?q=../|"},
        {"", "{\"path\":{\"prefix\":\"/v1\",\"to\":\"/\"}}", "/v1/a", "path=/a|"},
        {"", "{\"path\":{\"prefix\":\"/v1/\",\"to\":\"/\"}}", "/v1", "path=/|"},
        {"", "{\"path\":{\"prefix\":\"/\",\"to\":\"/v2\"}}", "/a", "path=/v2/a|"},
        {"", "{\"path\":{\"prefix\":\"/v1\",\"to\":\"/v2\"}}", "/v10", ""},
        {"", "{\"path\":{\"prefix\":\"/a\",\"to\":\"/b\"}},{\"path\":{\"prefix\":\"/b\",\"to\":\"/c\"}}", "/a/x",
         "path=/c/x|"},
        {"\"path\":\"/a/**\"", "{\"path\":\"/x/${1}\"}", "/a/", "path=/x/|"},
        {"", "{\"path\":\"${path}/x\"}", "/a", "path=/a/x|"},
        {"", "{\"path\":\"/x\"}", "/a%20b?y", "path=/x?y|"},
        /* What another reader may read in another way is not rewritten. */
        {"", "{\"path\":\"/x\"}", "/a/../b", "fault|"},
        {"", "{\"path\":\"/x\"}", "/a%2fb", "fault|"},
        {"", "{\"path\":\"/x\"}", "/a%2Eb", "fault|"},
        {"", "{\"path\":\"/x\"}", "/a%5cb", "fault|"},
        {"", "{\"path\":\"/x\"}", "/a\\b", "fault|"},
        {"", "{\"path\":\"/x\"}", "/a%zz", "fault|"},
        {"", "{\"path\":\"/x\"}", "*", "fault|"},
        {"\"path\":\"/*/**\"", "{\"path\":\"/x/${2}/y\"}", "/a/", "fault|"}, /* it would have a doubled slash */
        {"\"path\":\"/*\"", "{\"path\":\"/.${1}\"}", "/a", "path=/.a|"},
        {"", "{\"forward\":{\"port\":4000}}", "/", "to=,http,4000|"},
        {"", "{\"forward\":{\"program\":\"terminal\",\"container\":\"" D "\"}}", "/", "to=" D ",terminal,1|"},
        {"", "{\"forward\":{\"program\":\"https\",\"index\":8443}}", "/", "to=,https,8443|"},
        {"", "{\"forward\":{\"port\":1}},{\"forward\":{\"port\":2}}", "/", "to=,http,2|"},
        /* A reply takes all before it back. */
        {"",
         "{\"set\":{\"x\":\"1\"}},{\"forward\":{\"port\":1}},{\"path\":\"/"
         "x\"},{\"reply\":{\"status\":403}},{\"del\":\"y\"}",
         "/", "r:403=|"},
        {"\"path\":\"/a/*\"",
         "{\"reply\":{\"status\":302,\"headers\":{\"Location\":\"/b/${1}\"},\"body\":\"there ${1}\"}}", "/a/%0d%0ax",
         "r:302=|h:location=/b/%0D%0Ax|h:content-type=text/plain; charset=utf-8|b:=there ${1}|"},
        {"", "{\"reply\":{\"status\":200,\"headers\":{\"content-type\":\"text/html\"},\"body\":\"x\"}}", "/",
         "r:200=|h:content-type=text/html|b:=x|"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct edge_hooks *h = one(rows[i].match, rows[i].actions);
        expect(run(h, "GET", rows[i].target, "", "203.0.113.7"), rows[i].want);
        edge_hooks_destroy(&h);
    }
}

static void orders(void) {
    struct edge_hooks *h = hooks_of("{\"http\":[{\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"a\"}}],\"timeout\":500},"
                                    "{\"id\":\"b\",\"actions\":[{\"set\":{\"x\":\"b\"}}]}],"
                                    "\"terminal\":[{\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"t\"}}]}],"
                                    "\"*\":[{\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"all\"}}],\"timeout\":200}]}");
    struct edge_hook_visit v = visit("GET", "/", "", "");
    struct edge_hooked o = {.fault = 0};
    expect(run_visit(h, &v), "s:x=all|s:x=a|s:x=b|timeout=500|");
    v.program = ht_slice_str("terminal");
    expect(run_visit(h, &v), "s:x=all|s:x=t|timeout=200|");
    v.program = ht_slice_str("exec");
    CU_ASSERT_EQUAL(edge_hooks_run(h, &v, NOW, &o), HT_OK);
    CU_ASSERT_TRUE(ht_slice_is(ht_buf_slice(&o.names), "*/a"));
    edge_hooked_free(&o);
    edge_hooks_destroy(&h);
    h = hooks_of("{}");
    expect(run_visit(h, &v), "");
    edge_hooks_destroy(&h);
}

/* A visitor's key is his own, of the hook and of the span; an IPv6 visitor is his network. */
static void limits(void) {
    struct edge_hooks *h =
        hooks_of("{\"http\":[{\"id\":\"a\",\"actions\":[{\"limit\":{\"requests\":5,\"seconds\":10}}]},"
                 "{\"id\":\"b\",\"actions\":[{\"limit\":{\"requests\":9,\"seconds\":3600}}]}]}");
    static const char *const from[] = {"203.0.113.7",      "203.0.113.8",     "2001:db8::1",
                                       "2001:db8::ffff:1", "2001:db8:0:1::1", ""};
    struct edge_hooked o[HT_ARRAY_LEN(from)] = {{.fault = 0}};
    for (size_t i = 0; i < HT_ARRAY_LEN(from); i++) {
        struct edge_hook_visit v = visit("GET", "/", "", from[i]);
        CU_ASSERT(edge_hooks_run(h, &v, NOW, &o[i]) == HT_OK && o[i].n_limits == 2);
        CU_ASSERT(o[i].limits[0].most == 5 && o[i].limits[0].again_s >= 1 && o[i].limits[0].again_s <= 10);
        CU_ASSERT(o[i].limits[1].most == 9 && strcmp(o[i].limits[0].key, o[i].limits[1].key) != 0);
        for (size_t k = 0; k < i; k++)
            CU_ASSERT_EQUAL(strcmp(o[i].limits[0].key, o[k].limits[0].key) == 0, k == 2 && i == 3);
    }
    for (uint64_t s = 0; s < 30; s++) {
        struct edge_hook_visit v = visit("GET", "/", "", from[0]);
        struct edge_hooked later = {.fault = 0};
        CU_ASSERT_EQUAL(edge_hooks_run(h, &v, NOW + s, &later), HT_OK);
        CU_ASSERT_EQUAL(strcmp(later.limits[0].key, o[0].limits[0].key) == 0, s < o[0].limits[0].again_s);
        CU_ASSERT(strlen(later.limits[1].key) < sizeof later.limits[1].key - 1);
        edge_hooked_free(&later);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(from); i++)
        edge_hooked_free(&o[i]);
    edge_hooks_destroy(&h);
}

/* What a document could not have is not believed when it is there all the same: each is looked at again. */
static void at_the_request(void) {
    static const char *const names[] = {
        "transfer-encoding", "content_length", "host", "x-forwarded-for", "x_hoody_user", "a b", ""};
    static const char *const values[] = {"a\r\nx: y", "a\nb", "a\rb", "a\177", "\1"};
    char method[] = "GET";
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        struct edge_hooks *h = one("", MARK);
        expect(run(h, method, "/", "", ""), "s:x=1|");
        h->hooks[0].actions[0].fields[0].name = ht_slice_str(names[i]);
        expect(run(h, method, "/", "", ""), "fault|");
        edge_hooks_destroy(&h);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(values); i++) {
        struct edge_hooks *h = one("", "{\"set\":{\"x\":\"${method}\"}}");
        expect(run(h, values[i], "/", "", ""), "fault|");
        edge_hooks_destroy(&h);
        h = one("", "{\"reply\":{\"status\":200,\"headers\":{\"x\":\"${method}\"}}}");
        expect(run(h, values[i], "/", "", ""), "fault|");
        edge_hooks_destroy(&h);
    }
    /* What is filled in makes it too long. */
    struct edge_hooks *h = one("\"path\":\"/**\"", "{\"set\":{\"x\":\"${1}\"}}");
    char target[HOOKS_VALUE_MAX + 3] = "/";
    memset(target + 1, 'a', HOOKS_VALUE_MAX);
    CU_ASSERT(strncmp(run(h, method, target, "", ""), "s:x=aaa", 7) == 0);
    target[HOOKS_VALUE_MAX + 1] = 'a';
    expect(run(h, method, target, "", ""), "fault|");
    edge_hooks_destroy(&h);
    h = one("\"path\":\"/**\"",
            "{\"set\":{\"a\":\"${1}\",\"b\":\"${1}\",\"c\":\"${1}\",\"d\":\"${1}\",\"e\":\"${1}\"}}");
    target[HOOKS_VALUE_MAX] = '\0';
    expect(run(h, method, target, "", ""), "fault|");
    edge_hooks_destroy(&h);
}

/* Whatever a path is, its form is the form of itself, and a good one unless it is odd. */
static void forms(void) {
    static const struct {
        const char *path, *want;
        bool odd;
    } rows[] = {
        {"/", "/", false},
        {"/a/b", "/a/b", false},
        {"//a///b//", "/a/b/", false},
        {"/a%2db", "/a-b", false},
        {"/a%2ab", "/a%2Ab", false},
        {"/a b", "/a%20b", false},
        {"/\xc3\xa4", "/%C3%A4", false},
        {"/a/.", "/a/", true},
        {"/..", "/", true},
        {"/a/..", "/", true},
        {"/a/b/../c", "/a/c", true},
        {"/%2e%2e/a", "/a", true},
        {"/a%2f..%2fb", "/b", true},
        {"/%", "/%25", true},
        {"/a%5C", "/a%5C", true},
        {"/...", "/...", false},
        {"", "", true},
        {"*", "*", true},
        {"/%2", "/%252", true},
        {"/.a/b.", "/.a/b.", false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf b = {0};
        bool odd;
        CU_ASSERT_EQUAL(hook_path_normal(ht_slice_str(rows[i].path), &b, &odd), HT_OK);
        if (!ht_slice_is(ht_buf_slice(&b), rows[i].want) || odd != rows[i].odd)
            printf("# %s: %.*s %d\n", rows[i].path, HT_SLICE_ARG(ht_buf_slice(&b)), odd);
        CU_ASSERT(ht_slice_is(ht_buf_slice(&b), rows[i].want) && odd == rows[i].odd);
        CU_ASSERT_EQUAL(hook_path_is_good(ht_slice_str(rows[i].path)), !odd && strcmp(rows[i].path, rows[i].want) == 0);
        ht_buf_free(&b);
    }
}

static void mistake(const char *text, const char *where) {
    struct ht_errmsg e = {""};
    int rc;
    struct edge_hooks *h = edge_hooks_create(ht_slice_str(text), &rc, &e);
    if (h || !strstr(e.text, where))
        printf("# %s: %s\n", text, e.text);
    CU_ASSERT(!h && rc == HT_EINVAL && strstr(e.text, where));
    edge_hooks_destroy(&h);
}

static void mistakes(void) {
    static const char *const hooks[][2] = {
        {"\"id\":\"A\"", "http.0.id: an id has"},
        {"\"id\":\"\",\"actions\":[" MARK "]", "an id has"},
        {"\"id\":1", "a text"},
        {"\"actions\":[" MARK "]", "needs an id"},
        {"\"id\":\"a\"", "needs actions, or a timeout"},
        {"\"id\":\"a\",\"x\":1", "http.0.x: this is unknown; there are id, match, actions and timeout"},
        {"\"id\":\"a\",\"timeout\":99", "from 100 to 300000"},
        {"\"id\":\"a\",\"timeout\":1.5", "from 100 to 300000"},
        {"\"id\":\"a\",\"timeout\":\"1\"", "from 100 to 300000"},
        {"\"id\":\"a\",\"actions\":{}", "an array of actions"},
        {"\"id\":\"a\",\"actions\":[]", "http.0.actions: one action"},
        {"\"id\":\"a\",\"actions\":[1]", "http.0.actions.0: an action is"},
        {"\"id\":\"a\",\"actions\":[" MARK ",{}]", "http.0.actions.1: an action is"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"1\"},\"del\":\"y\"}]", "an action is"},
        {"\"id\":\"a\",\"actions\":[{\"run\":\"sh\"}]", "an action is"},
        {"\"id\":\"a\",\"actions\":[{\"reply\":{\"status\":200},\"on\":\"response\"}]", "an action is"},
        {"\"id\":\"a\",\"actions\":[{\"del\":\"x\",\"on\":\"both\"}]", "\"request\" or \"response\""},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":1}}]", "http.0.actions.0.set.x: a text"},
        {"\"id\":\"a\",\"actions\":[{\"set\":[]}]", "an object of header fields"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x y\":\"1\"}}]", "no name of a field"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"Host\":\"1\"}}]", "the field host says where"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"Transfer_Encoding\":\"1\"}}]", "is the edge's alone"},
        {"\"id\":\"a\",\"actions\":[{\"del\":\"connection\"}]", "is the edge's alone"},
        {"\"id\":\"a\",\"actions\":[{\"add\":{\"X-Forwarded-For\":\"1\"}}]", "who the visitor is"},
        {"\"id\":\"a\",\"actions\":[{\"add\":{\"x-hoody-user\":\"1\"}}]", "who the visitor is"},
        {"\"id\":\"a\",\"actions\":[{\"add\":{\"true-client_ip\":\"1\"}}]", "who the visitor is"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"alt-svc\":\"1\"},\"on\":\"response\"}]", "where else the service is"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"a\\r\\nb: c\"}}]", "no line ends"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"\\u0000\"}}]", "byte"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"${1}\"}}]", "has not so many stars"},
        {"\"id\":\"a\",\"match\":{\"path\":\"/*\"},\"actions\":[{\"set\":{\"x\":\"${2}\"}}]", "has not so many stars"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"${host}\"}}]", "path, method, client"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"${path\"}}]", "path, method, client"},
        {"\"id\":\"a\",\"actions\":[{\"set\":{\"x\":\"${\"}}]", "path, method, client"},
        {"\"id\":\"a\",\"actions\":[{\"path\":\"x\"}]", "no path such as"},
        {"\"id\":\"a\",\"actions\":[{\"path\":\"/a/../b\"}]", "no path such as"},
        {"\"id\":\"a\",\"actions\":[{\"path\":\"/a?b\"}]", "no path such as"},
        {"\"id\":\"a\",\"actions\":[{\"path\":{\"to\":\"/a\"}}]", "prefix and to"},
        {"\"id\":\"a\",\"actions\":[{\"path\":{\"prefix\":\"/a\"}}]", "prefix and to"},
        {"\"id\":\"a\",\"actions\":[{\"path\":{\"x\":\"/a\"}}]", "prefix and to"},
        {"\"id\":\"a\",\"actions\":[{\"reply\":{}}]", "needs a status"},
        {"\"id\":\"a\",\"actions\":[{\"reply\":{\"status\":101}}]", "from 200 to 599"},
        {"\"id\":\"a\",\"actions\":[{\"reply\":{\"status\":204,\"body\":\"x\"}}]", "has no body"},
        {"\"id\":\"a\",\"actions\":[{\"reply\":{\"status\":401}}]", "www-authenticate"},
        {"\"id\":\"a\",\"actions\":[{\"reply\":{\"status\":200,\"headers\":{\"content-length\":\"9\"}}}]",
         "is the edge's alone"},
        {"\"id\":\"a\",\"actions\":[{\"limit\":{\"requests\":5}}]", "requests and seconds"},
        {"\"id\":\"a\",\"actions\":[{\"limit\":{\"requests\":0,\"seconds\":1}}]", "from 1 to"},
        {"\"id\":\"a\",\"actions\":[{\"limit\":{\"requests\":1,\"seconds\":3601}}]", "from 1 to 3600"},
        {"\"id\":\"a\",\"actions\":[{\"limit\":{\"requests\":1,\"seconds\":1}},{\"limit\":{\"requests\":1,\"seconds\":"
         "1}},"
         "{\"limit\":{\"requests\":1,\"seconds\":1}}]",
         "at most 2 limits"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{}}]", "port, or program and index"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{\"port\":0}}]", "from 1 to 65535"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{\"host\":\"evil.example\"}}]", "this is unknown"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{\"ip\":\"127.0.0.1\",\"port\":80}}]", "this is unknown"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{\"container\":\"x\",\"port\":80}}]", "24 of 0-9 and a-f"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{\"program\":\"http\"}}]", "its port is wanted"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{\"program\":\"*\"}}]", "no program such as"},
        {"\"id\":\"a\",\"actions\":[{\"forward\":{\"program\":\"terminal\",\"port\":1}}]",
         "port, or program and index"},
        {"\"id\":\"a\",\"match\":[]", "some of method, path"},
        {"\"id\":\"a\",\"match\":{\"host\":\"x\"}", "http.0.match.host: this is unknown"},
        {"\"id\":\"a\",\"match\":{\"method\":\"get\"}", "in upper case"},
        {"\"id\":\"a\",\"match\":{\"ip\":\"x\"}", "no network"},
        {"\"id\":\"a\",\"match\":{\"index\":65536}", "from 0 to 65535"},
        {"\"id\":\"a\",\"match\":{\"headers\":{\"x\":\"a*b*\"}}", "at most one *"},
        {"\"id\":\"a\",\"match\":{\"headers\":{\"x\":1}}", "true, false, or a text"},
        {"\"id\":\"a\",\"match\":{\"headers\":{\"\":true}}", "no name of a field"},
        {"\"id\":\"a\",\"match\":{\"path\":1}", "exact, prefix and pattern"},
        {"\"id\":\"a\",\"match\":{\"path\":{}}", "exact, prefix and pattern"},
        {"\"id\":\"a\",\"match\":{\"path\":{\"regex\":\"(a+)+\"}}", "exact, prefix and pattern"},
        {"\"id\":\"a\",\"match\":{\"path\":{\"exact\":\"/a\",\"prefix\":\"/b\"}}", "exact, prefix and pattern"},
        {"\"id\":\"a\",\"match\":{\"path\":\"/%61\"}", "no path such as"},
        {"\"id\":\"a\",\"match\":{\"path\":\"/a%2fb\"}", "no path such as"},
        {"\"id\":\"a\",\"match\":{\"path\":\"/**/a\"}", "** is the last part"},
        {"\"id\":\"a\",\"match\":{\"path\":\"/a*b*\"}", "at most one *"},
        {"\"id\":\"a\",\"match\":{\"path\":\"/*/*/*/*/*/*/*/*/*/*\"}", "at most 9 stars"},
        {"\"id\":\"a\",\"id\":\"b\"", "duplicate"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(hooks); i++) {
        char text[1000];
        snprintf(text, sizeof text, "{\"http\":[{%s}]}", hooks[i][0]);
        mistake(text, hooks[i][1]);
    }
    mistake("[]", "an object of programs");
    mistake("", "byte 0");
    mistake("{\"HTTP\":[]}", "HTTP: this is no program");
    mistake("{\"http\":{}}", "http: an array of hooks");
    mistake("{\"http\":[1]}", "http.0: an object with id");
    mistake("{\"http\":[{\"id\":\"a\",\"actions\":[" MARK "]},{\"id\":\"a\",\"actions\":[" MARK "]}]}",
            "http.1.id: another hook");
    mistake("{\"http\":[]} x", "byte 12");
}

/* Too many, too large. */
static void bounds(void) {
    struct ht_buf b = {0};
    for (unsigned services = 1; services <= 5; services++) {
        unsigned per = services == 1 ? HOOKS_SERVICE_MAX + 1 : HOOKS_SERVICE_MAX;
        CU_ASSERT_EQUAL(ht_buf_append_str(&b, "{"), 0);
        for (unsigned s = 0; s < services; s++) {
            CU_ASSERT_EQUAL(ht_buf_printf(&b, "%s\"s%c\":[", s ? "," : "", (char)('a' + (char)s)), 0);
            for (unsigned i = 0; i < per; i++)
                CU_ASSERT_EQUAL(ht_buf_printf(&b, "%s{\"id\":\"h%u\",\"actions\":[" MARK "]}", i ? "," : "", i), 0);
            CU_ASSERT_EQUAL(ht_buf_append_str(&b, "]"), 0);
        }
        CU_ASSERT_EQUAL(ht_buf_append(&b, "}", 2), 0);
        if (services == 1)
            mistake((const char *)ht_buf_head(&b), "at most 32 hooks");
        else if (services * per > HOOKS_MAX)
            mistake((const char *)ht_buf_head(&b), "at most 128 hooks");
        else {
            struct edge_hooks *h = hooks_of((const char *)ht_buf_head(&b));
            CU_ASSERT_EQUAL(edge_hooks_count(h), (size_t)services * per);
            edge_hooks_destroy(&h);
        }
        ht_buf_free(&b);
    }
    /* 4 MB, before anything of it is read. */
    char *large = malloc(4u << 20);
    CU_ASSERT_PTR_NOT_NULL_FATAL(large);
    memset(large, '[', 4u << 20);
    large[(4u << 20) - 1] = '\0';
    mistake(large, "at most 262144 bytes");
    large[HOOKS_DOC_MAX] = '\0';
    mistake(large, "byte");
    free(large);
    /* Fields that are looked at, so that each request is soon done with. */
    CU_ASSERT_EQUAL(ht_buf_append_str(&b, "{\"http\":["), 0);
    for (unsigned i = 0; i < HOOKS_WANTS_MAX / 16 + 1; i++) {
        CU_ASSERT_EQUAL(ht_buf_printf(&b, "%s{\"id\":\"h%u\",\"match\":{\"headers\":{", i ? "," : "", i), 0);
        for (unsigned k = 0; k < 16; k++)
            CU_ASSERT_EQUAL(ht_buf_printf(&b, "%s\"x-%u\":true", k ? "," : "", k), 0);
        CU_ASSERT_EQUAL(ht_buf_append_str(&b, "}},\"timeout\":500}"), 0);
    }
    CU_ASSERT_EQUAL(ht_buf_append(&b, "]}", 3), 0);
    mistake((const char *)ht_buf_head(&b), "look at no more than 128 fields");
    ht_buf_free(&b);
    /* Containers that are forwarded to. */
    CU_ASSERT_EQUAL(ht_buf_append_str(&b, "{\"http\":["), 0);
    for (unsigned i = 0; i <= HOOKS_FORWARDS_MAX; i++)
        CU_ASSERT_EQUAL(
            ht_buf_printf(&b, "%s{\"id\":\"h%u\",\"actions\":[{\"forward\":{\"container\":\"%024x\",\"port\":1}}]}",
                          i ? "," : "", i, i),
            0);
    CU_ASSERT_EQUAL(ht_buf_append(&b, "]}", 3), 0);
    mistake((const char *)ht_buf_head(&b), "forward to at most 16");
    ht_buf_free(&b);
}

#define ALL                                                                                                            \
    "{\"http\":[{\"id\":\"a\",\"match\":{\"method\":[\"GET\",\"PUT\"],\"path\":\"/u-*/"                                \
    "**\",\"headers\":{\"x-a\":\"a*b\",\"x-\\u0062\":"                                                                 \
    "true},\"ip\":[\"203.0.113.0/24\",\"2001:db8::/"                                                                   \
    "32\"],\"index\":[1,3000]},\"actions\":[{\"set\":{\"x\":\"${1}-${2}\"}},"                                          \
    "{\"add\":{\"y\":\"${client}\"},\"on\":\"response\"},{\"del\":[\"z\"]},{\"path\":\"/n/"                            \
    "${2}\"},{\"limit\":{\"requests\":1,"                                                                              \
    "\"seconds\":9}},{\"forward\":{\"port\":4000}}],\"timeout\":500}],\"*\":[{\"id\":\"b\",\"match\":{\"path\":{"      \
    "\"prefix\":\"/r\"}},"                                                                                             \
    "\"actions\":[{\"reply\":{\"status\":403,\"headers\":{\"x\":\"${1}\"},\"body\":\"no\\n\"}}]}]}"
#define ALL_SAID "s:x=7-a/b|d:z=|<a:y=203.0.113.7|path=/n/a/b?c|to=,http,4000|timeout=500|"

static void pieces_and_memory(void) {
    static const char heads[] = "x-a: a-b\r\nX-B: 1\r\n";
    size_t n = strlen(ALL), live = ht_mem_live();
    for (size_t i = 0; i < n; i++) {
        char *copy = malloc(i ? i : 1);
        struct ht_errmsg e = {""};
        int rc;
        CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
        memcpy(copy, ALL, i);
        struct edge_hooks *h = edge_hooks_create(ht_slice_of(copy, i), &rc, &e);
        CU_ASSERT(!h && rc == HT_EINVAL && e.text[0]);
        free(copy);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
    for (long i = 0;; i++) {
        struct ht_errmsg e = {""};
        int rc;
        ht_mem_fail_at(i);
        struct edge_hooks *h = edge_hooks_create(ht_slice_str(ALL), &rc, &e);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT(h ? rc == HT_OK : rc == HT_ENOMEM && failed);
        edge_hooks_destroy(&h);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
        if (!failed)
            break;
    }
    struct edge_hooks *h = hooks_of(ALL);
    for (unsigned k = 0; k < 2; k++)
        for (long i = 0;; i++) {
            struct edge_hook_visit v = visit("GET", k ? "/r/x" : "/u-7/a/b?c", heads, "203.0.113.7");
            struct edge_hooked o = {.fault = 0};
            ht_mem_fail_at(i);
            int rc = edge_hooks_run(h, &v, NOW, &o);
            bool failed = !ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            CU_ASSERT(failed ? rc == HT_ENOMEM : rc == HT_OK);
            edge_hooked_free(&o);
            if (!failed)
                break;
        }
    expect(run(h, "GET", "/u-7/a/b?c", heads, "203.0.113.7"), ALL_SAID);
    expect(run(h, "GET", "/r/x", heads, "203.0.113.7"),
           "r:403=|h:x=/x|h:content-type=text/plain; charset=utf-8|b:=no\n|");
    edge_hooks_destroy(&h);
    CU_ASSERT_EQUAL(ht_mem_live(), live);
}

static void rows_of_services(void) {
    static const char doc[] =
        " {\"http\": [ {\"id\": \"a\", \"timeout\": 100} , {\"timeout\":200,\"id\":\"b\"}], \"*\":[]}";
    struct edge_hook_rows rows;
    struct ht_buf out = {0};
    char id[HOOKS_ID_MAX + 1];
    CU_ASSERT(edge_hook_rows_read(ht_slice_str(doc), "http", &rows) == HT_OK && rows.n == 2);
    CU_ASSERT(edge_hook_rows_find(&rows, "b") == 1 && edge_hook_rows_find(&rows, "c") == 2);
    struct edge_hook_row row = {.text = ht_slice_str("{\"id\":\"hook-1\",\"timeout\":300}"), .id = "hook-1"};
    edge_hook_rows_insert(&rows, 1, &row);
    edge_hook_rows_new_id(&rows, id);
    CU_ASSERT_STRING_EQUAL(id, "hook-2");
    CU_ASSERT_EQUAL(edge_hook_rows_write(ht_slice_str(doc), "http", &rows, &out), HT_OK);
    CU_ASSERT_TRUE(ht_slice_is(ht_buf_slice(&out),
                               "{\"http\":[{\"id\": \"a\", \"timeout\": 100},{\"id\":\"hook-1\",\"timeout\":300},"
                               "{\"timeout\":200,\"id\":\"b\"}],\"*\":[]}"));
    ht_buf_free(&out);
    edge_hook_rows_remove(&rows, 0);
    edge_hook_rows_remove(&rows, 1);
    edge_hook_rows_insert(&rows, 99, &row);
    CU_ASSERT(rows.n == 2 && strcmp(rows.all[1].id, "hook-1") == 0);
    rows.n = 0;
    CU_ASSERT_EQUAL(edge_hook_rows_write(ht_slice_str(doc), "http", &rows, &out), HT_OK);
    CU_ASSERT_TRUE(ht_slice_is(ht_buf_slice(&out), "{\"*\":[]}"));
    ht_buf_free(&out);
    CU_ASSERT(edge_hook_rows_read(ht_slice_of(NULL, 0), "http", &rows) == HT_OK && rows.n == 0);
    static const char *const bad[] = {"{\"http\":{}}",
                                      "{\"http\":[1]}",
                                      "{\"http\":[{}]}",
                                      "{\"http\":[{\"id\":\"A\"}]}",
                                      "{\"http\":[{\"id\":\"\\u0061\"}]}",
                                      "{\"http\":[{\"id\":\"a\"}"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        int rc = edge_hook_rows_read(ht_slice_str(bad[i]), "http", &rows);
        if (rc != HT_EINVAL && !(rc == HT_OK && rows.n == 0))
            printf("# %s\n", bad[i]);
        CU_ASSERT(rc == HT_EINVAL || (rc == HT_OK && rows.n == 0));
    }
    for (long i = 0;; i++) {
        ht_mem_fail_at(i);
        int rc = edge_hook_rows_read(ht_slice_str(doc), "http", &rows);
        if (rc == HT_OK)
            rc = edge_hook_rows_write(ht_slice_str(doc), "http", &rows, &out);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        ht_buf_free(&out);
        if (!failed)
            break;
        CU_ASSERT_EQUAL(rc, HT_ENOMEM);
    }
}

static const struct tap_test tests[] = {
    {"what hooks look at: methods, paths however they are written, fields, networks, numbers", looks},
    {"what they do: fields, paths, answers, other services", acts},
    {"those of all services come first, then each in its order", orders},
    {"limits: keys of a visitor, a hook and a span of time", limits},
    {"at the request as well: no line end, no field of the edge's, nothing too long gets into a head", at_the_request},
    {"paths have one form", forms},
    {"documents with a mistake: the member is named, and what would be right", mistakes},
    {"documents with too much in them, and of 4 MB", bounds},
    {"documents cut at each byte; each allocation fails", pieces_and_memory},
    {"the hooks of a service as rows", rows_of_services},
    {NULL, NULL},
};

int main(void) { return tap_main("edge, hooks", tests); }
