/* Documents of permissions: what they say of requests, each mistake, and what of a request the service never sees. */
#include "base/mem.h"
#include "edge/policy.h"
#include "haproxy_gen.h"
#include "support/tap.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define NOW UINT64_C(2000000000)
#define TOKEN "0123456789abcdef"
#define HASH "$2y$10$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234"
/* HS256 with 32 times `k`; {"exp":2000000100}, and {"exp":1}. */
#define KEY "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define JWT "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAwMDAxMDB9.VOI68I59oqhGle-7SV56KN3IIdw1fTKcAU8_GrRotTY"
#define OLD "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c81OgISrEbAZM90ztbBVF2lnGqj4TNGvJeXw1MfkJcE"

static struct edge_policy *policy_of(const char *text) {
    struct ht_errmsg e = {""};
    int rc;
    struct edge_policy *p = edge_policy_create(ht_slice_str(text), &rc, &e);
    if (!p)
        printf("# %s\n", e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    return p;
}

static struct edge_visit visit(const char *program, unsigned index, const char *addr, const char *target,
                               const char *heads) {
    struct edge_visit v = {
        .program = ht_slice_str(program), .index = index, .target = ht_slice_str(target), .heads = ht_slice_str(heads)};
    v.family = strchr(addr, ':') ? 6 : *addr ? 4 : 0;
    if (v.family)
        CU_ASSERT_EQUAL(inet_pton(v.family == 4 ? AF_INET : AF_INET6, addr, v.addr), 1);
    return v;
}

#define GROUPS                                                                                                         \
    "\"groups\":{\"office\":{\"type\":\"ip\",\"range\":[\"203.0.113.0/24\",\"2001:db8::/32\"]},"                       \
    "\"bad\":{\"type\":\"ip\",\"range\":\"203.0.113.66\"},"                                                            \
    "\"ci\":{\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"X-Key\"},"                                        \
    "\"link\":{\"type\":\"token\",\"value\":\"" TOKEN "2\",\"param\":\"key\"},"                                        \
    "\"jar\":{\"type\":\"token\",\"value\":\"" TOKEN "3\",\"cookie\":\"sid\"},"                                        \
    "\"app\":{\"type\":\"jwt\",\"algorithm\":\"HS256\",\"secret\":\"" KEY "\"},"                                       \
    "\"team\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"" HASH "\"}}"
#define RULES                                                                                                          \
    "\"permissions\":{\"office\":{\"terminal\":true,\"http\":[3000,\"8000-8100\"]},\"bad\":{\"terminal\":false},"      \
    "\"ci\":{\"exec\":\"*\"},\"link\":{\"files\":2},\"jar\":{\"code\":true},\"app\":{\"curl\":true},"                  \
    "\"team\":{\"*\":true,\"exec\":false}}"

static const char *const verdicts[] = {"allow", "deny", "login", "password"};

struct row {
    const char *program;
    unsigned index;
    const char *addr, *target, *heads, *verdict, *why;
};

static void decide_rows(const char *doc, const struct row *rows, size_t n) {
    struct edge_policy *p = policy_of(doc);
    for (size_t i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        struct edge_visit v = visit(r->program, r->index, r->addr, r->target, r->heads);
        struct edge_decision d;
        edge_policy_decide(p, &v, NOW, &d);
        bool ok = strcmp(verdicts[d.verdict], r->verdict) == 0 && strcmp(d.why, r->why) == 0;
        if (!ok)
            printf("# row %zu (%s %s): %s, %s\n", i, r->program, r->heads, verdicts[d.verdict], d.why);
        CU_ASSERT_TRUE(ok);
    }
    edge_policy_destroy(&p);
}

#define ANN "Authorization: Basic YW5uOnNlc2FtZQ==\r\n"
#define BOB "Authorization: Basic Ym9iOnNlc2FtZQ==\r\n"

static void decisions(void) {
    static const struct row rows[] = {
        {"terminal", 1, "203.0.113.9", "/", "", "allow", "ip"},
        {"terminal", 1, "2001:db8::9", "/", "", "allow", "ip"},
        {"terminal", 1, "::ffff:203.0.113.9", "/", "", "allow", "ip"},
        {"terminal", 1, "203.0.113.66", "/", "", "allow", "ip"}, /* one group that may is enough */
        {"terminal", 1, "198.51.100.1", "/", "", "login", "nobody"},
        {"terminal", 1, "", "/", "", "login", "nobody"},
        {"terminal", 1, "198.51.100.1", "/", "X-Forwarded-For: 203.0.113.9\r\n", "login", "nobody"},
        {"http", 3000, "203.0.113.9", "/", "", "allow", "ip"},
        {"http", 3001, "203.0.113.9", "/", "", "login", "nobody"},
        {"http", 8000, "203.0.113.9", "/", "", "allow", "ip"},
        {"http", 8100, "203.0.113.9", "/", "", "allow", "ip"},
        {"http", 8101, "203.0.113.9", "/", "", "login", "nobody"},
        {"http", 3000 + 65536, "203.0.113.9", "/", "", "login", "nobody"},
        {"exec", 1, "198.51.100.1", "/", "x-key: " TOKEN "\r\n", "allow", "token"},
        {"exec", 1, "198.51.100.1", "/", "X-KEY:\t Bearer " TOKEN " \r\n", "allow", "token"},
        {"exec", 1, "198.51.100.1", "/", "x-key: " TOKEN "4\r\n", "deny", "token"},
        {"exec", 1, "198.51.100.1", "/", "x-key: 0123456789abcde\r\n", "deny", "token"},
        {"exec", 1, "198.51.100.1", "/", "x-key:\r\n", "deny", "token"},
        {"exec", 1, "198.51.100.1", "/", "x_key: " TOKEN "\r\n", "deny", "nobody"},
        {"exec", 1, "198.51.100.1", "/", "x-key: " TOKEN "\r\nX-Key: " TOKEN "\r\n", "deny", "twice"},
        {"exec", 1, "198.51.100.1", "/", "x-key: " TOKEN "\r\n" ANN, "allow", "token"},
        {"exec", 1, "198.51.100.1", "/", ANN, "deny", "nobody"}, /* no password opens it */
        {"terminal", 1, "203.0.113.9", "/", ANN BOB, "deny", "twice"},
        {"files", 2, "198.51.100.1", "/?a=1&key=" TOKEN "2", "", "allow", "token"},
        {"files", 2, "198.51.100.1", "/?%6bey=%30123456789abcdef2", "", "allow", "token"},
        {"files", 2, "198.51.100.1", "/?KEY=" TOKEN "2", "", "login", "nobody"},
        {"files", 2, "198.51.100.1", "/?key=" TOKEN "2&k%65y=x", "", "deny", "twice"},
        {"files", 2, "198.51.100.1", "/?a=1;key=" TOKEN "2", "", "login", "nobody"},
        {"files", 2, "198.51.100.1", "/key=" TOKEN "2", "", "login", "nobody"},
        {"files", 1, "198.51.100.1", "/?key=" TOKEN "2", "", "login", "nobody"}, /* of files-2 alone */
        {"code", 1, "198.51.100.1", "/", "Cookie: a=b; sid=" TOKEN "3 ;c=d\r\n", "allow", "token"},
        {"code", 1, "198.51.100.1", "/", "Cookie: sid=x; sid=" TOKEN "3\r\n", "deny", "twice"},
        {"code", 1, "198.51.100.1", "/", "Cookie: sid=x\r\nCookie: sid=" TOKEN "3\r\n", "deny", "twice"},
        {"code", 1, "198.51.100.1", "/", "Cookie: SID=" TOKEN "3\r\n", "login", "nobody"},
        {"code", 1, "198.51.100.1", "/", "Cookie: sid=" TOKEN "\r\n", "login", "token"},
        {"curl", 1, "198.51.100.1", "/", "authorization: Bearer not.a.token\r\n", "login", "malformed"},
        {"curl", 1, "198.51.100.1", "/", "authorization: bearer eyJhbGciOiJub25lIn0.e30.\r\n", "login", "algorithm"},
        {"curl", 1, "198.51.100.1", "/", ANN, "password", ""},
        {"curl", 1, "198.51.100.1", "/", BOB, "password", ""}, /* nobody: checked, so that it takes as long */
        {"curl", 1, "198.51.100.1", "/", "authorization: Basic !\r\n", "login", "nobody"},
        {"curl", 1, "203.0.113.9", "/", "", "login", "nobody"},
    };
    decide_rows("{\"default\":\"deny\"," GROUPS "," RULES "}", rows, HT_ARRAY_LEN(rows));
    /* The same without a default, and with permissions in front of the groups. */
    decide_rows("{" RULES "," GROUPS "}", rows, HT_ARRAY_LEN(rows));
    static const struct row open[] = {
        {"terminal", 1, "198.51.100.1", "/", "", "allow", "default"},
        {"terminal", 1, "203.0.113.66", "/", "", "allow", "ip"},
        {"exec", 1, "203.0.113.66", "/", "x-key: wrong\r\n", "allow", "default"},
        {"exec", 1, "203.0.113.66", "/", ANN, "allow", "default"},
        {"exec", 1, "203.0.113.66", "/", ANN BOB, "deny", "twice"},
    };
    decide_rows("{\"default\":\"allow\"," GROUPS "," RULES "}", open, HT_ARRAY_LEN(open));
    static const struct row told[] = {
        {"terminal", 1, "203.0.113.66", "/", "", "deny", "group"},
        {"terminal", 1, "203.0.113.67", "/", "", "allow", "default"},
        {"exec", 1, "203.0.113.66", "/", "", "allow", "default"},
    };
    decide_rows("{\"default\":\"allow\",\"groups\":{\"bad\":{\"type\":\"ip\",\"range\":\"203.0.113.66\"}},"
                "\"permissions\":{\"bad\":{\"terminal\":false}}}",
                told, HT_ARRAY_LEN(told));
}

static void challenges_and_claims(void) {
    struct edge_policy *p = policy_of("{" GROUPS "," RULES "}");
    struct edge_visit v = visit("curl", 1, "198.51.100.1", "/", "");
    struct edge_decision d;
    edge_policy_decide(p, &v, NOW, &d);
    CU_ASSERT(d.verdict == EDGE_LOGIN && d.challenge == (EDGE_BASIC | EDGE_BEARER) && !d.failed);
    v = visit("curl", 1, "198.51.100.1", "/", ANN);
    edge_policy_decide(p, &v, NOW, &d);
    CU_ASSERT(ht_slice_is(d.claim.name, "ann") && ht_slice_is(d.claim.password, "sesame") &&
              strcmp(d.claim.hash, HASH) == 0);
    struct edge_decision good = d;
    edge_policy_login(&good, true);
    CU_ASSERT(good.verdict == EDGE_ALLOW && ht_slice_is(good.group, "team") && strcmp(good.why, "password") == 0);
    edge_policy_login(&d, false);
    CU_ASSERT(d.verdict == EDGE_LOGIN && d.group.n == 0 && strcmp(d.why, "password") == 0);
    v = visit("curl", 1, "198.51.100.1", "/", BOB);
    edge_policy_decide(p, &v, NOW, &d);
    CU_ASSERT(d.verdict == EDGE_PASSWORD && !d.claim.hash && ht_slice_is(d.claim.name, "bob"));
    v = visit("exec", 1, "198.51.100.1", "/", "x-key: wrong\r\n");
    edge_policy_decide(p, &v, NOW, &d);
    CU_ASSERT(d.failed && d.challenge == 0);
    edge_policy_destroy(&p);
    /* sha256("salt" "sesame"), as another system may have kept it. */
    p = policy_of("{\"groups\":{\"a\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"" HASH
                  "\",\"algorithm\":\"sha256\",\"salt\":\"salt\"}},\"permissions\":{\"a\":{\"*\":true}}}");
    v = visit("curl", 1, "198.51.100.1", "/", ANN);
    edge_policy_decide(p, &v, NOW, &d);
    CU_ASSERT(ht_slice_is(d.claim.password, "fcc28a7d49fee2d1f9d5bf551f7554498a5fd92c7d1626b0b45e43221e8690cf"));
    edge_policy_destroy(&p);
}

static void asking(void) {
    static const struct {
        const char *doc;
        bool asks, enabled;
    } rows[] = {
        {"{}", true, true},
        {"{\"default\":\"deny\"}", true, true},
        {"{\"default\":\"allow\",\"enable_proxy\":false}", false, false},
        {"{\"default\":\"allow\",\"groups\":{\"a\":{\"type\":\"ip\",\"range\":\"0.0.0.0/0\"}},\"permissions\":{\"a\":"
         "{\"http\":true}}}",
         false, true},
        {"{\"default\":\"allow\",\"groups\":{\"a\":{\"type\":\"ip\",\"range\":\"0.0.0.0/0\"}},\"permissions\":{\"a\":"
         "{\"http\":false}}}",
         true, true},
        {"{\"default\":\"allow\",\"groups\":{\"a\":{\"type\":\"token\",\"value\":\"" TOKEN "\"}}}", true, true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct edge_policy *p = policy_of(rows[i].doc);
        CU_ASSERT(edge_policy_asks(p) == rows[i].asks && edge_policy_enabled(p) == rows[i].enabled);
        edge_policy_destroy(&p);
    }
}

static void strips(void) {
    static const struct {
        const char *target, *heads;
        bool authorization;
        const char *cookie, *out, *names; /* NULL: it stays */
    } rows[] = {
        {"/a?b=c", "Cookie: a=b\r\nAuthorization: Digest x\r\nAccept: x\r\n", true, NULL, NULL, ""},
        {"/", ANN, true, NULL, NULL, ""},
        {"/", "X-KEY: a\r\nx-key2: b\r\n", false, NULL, NULL, "X-KEY"},
        {"/", "Cookie: sid=x\r\n", false, "", NULL, ""},
        {"/", "Cookie: a=b;sid=x; c=d\r\nCOOKIE: sid = y; e=f\r\n", false, "a=b; c=d; e=f", NULL, ""},
        {"/a?key=x", "", false, NULL, "/a", ""},
        {"/a?x=1&k%65y=x&y=%zz&key&key=&&z", "", false, NULL, "/a?x=1&y=%zz&&z", ""},
        {"/key=a", "", false, NULL, NULL, ""},
        {"/?KEY=a", "", false, NULL, NULL, ""},
    };
    struct edge_policy *p = policy_of("{" GROUPS "," RULES "}");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct edge_visit v = visit("http", 1, "198.51.100.1", rows[i].target, rows[i].heads);
        struct edge_strip s = {.authorization = false};
        CU_ASSERT_EQUAL(edge_policy_strip(p, &v, &s), 0);
        bool ok = s.authorization == rows[i].authorization && s.has_cookie == (rows[i].cookie != NULL) &&
                  s.has_target == (rows[i].out != NULL) && ht_slice_is(ht_buf_slice(&s.names), rows[i].names) &&
                  (!s.has_cookie || ht_slice_is(ht_buf_slice(&s.cookie), rows[i].cookie)) &&
                  (!s.has_target || ht_slice_is(ht_buf_slice(&s.target), rows[i].out));
        if (!ok)
            printf("# row %zu: %d, cookie %.*s, target %.*s, names %.*s\n", i, s.authorization,
                   HT_SLICE_ARG(ht_buf_slice(&s.cookie)), HT_SLICE_ARG(ht_buf_slice(&s.target)),
                   HT_SLICE_ARG(ht_buf_slice(&s.names)));
        CU_ASSERT_TRUE(ok);
        edge_strip_free(&s);
    }
    edge_policy_destroy(&p);
    /* Fields with usual names need no script, if all of them go and no others do. */
    static const struct {
        const char *heads;
        bool usual;
    } fields[] = {{"x-key: a", true},
                  {"X-Key: a\r\naccept: x", true},
                  {"x-key: a\r\nx-token: of the service", false},
                  {"x-token: of the service", false},
                  {"accept: x", true}};
    p = policy_of("{" GROUPS "," RULES "}");
    for (size_t i = 0; i < HT_ARRAY_LEN(fields); i++) {
        struct edge_visit one = visit("http", 1, "198.51.100.1", "/", fields[i].heads);
        struct edge_strip of = {.authorization = false};
        CU_ASSERT(edge_policy_strip(p, &one, &of) == 0 && of.usual == fields[i].usual);
        edge_strip_free(&of);
    }
    edge_policy_destroy(&p);
    /* Authorization of a kind that no group has is the service's. */
    p = policy_of("{\"groups\":{\"a\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"" HASH "\"}}}");
    struct edge_visit v = visit("http", 1, "198.51.100.1", "/", "Authorization: Bearer x\r\n");
    struct edge_strip s = {.authorization = false};
    CU_ASSERT(edge_policy_strip(p, &v, &s) == 0 && !s.authorization);
    edge_strip_free(&s);
    edge_policy_destroy(&p);
}

#define G(members) "{\"groups\":{\"a\":{" members "}}}"
#define IP "\"type\":\"ip\",\"range\":\"192.0.2.0/24\""
#define R(rules) "{\"groups\":{\"a\":{" IP "}},\"permissions\":" rules "}"

static void mistakes(void) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "is wanted here (byte 0)"},
        {"{", "ends too early"},
        {"[]", "an object with default, groups and permissions is wanted here"},
        {"{\"default\":\"allow\"} x", "behind the value"},
        {"{\"default\":\"allow\",\"default\":\"deny\"}", "duplicate key"},
        {"{\"default\":\"Allow\"}", "default: \"allow\" or \"deny\""},
        {"{\"default\":true}", "default: \"allow\" or \"deny\""},
        {"{\"enable_proxy\":\"yes\"}", "enable_proxy: true or false"},
        {"{\"group\":{}}", "group: this is unknown"},
        {"{\"groups\":[]}", "groups: an object of groups"},
        {"{\"groups\":{\"a b\":{}}}", "groups.a b: a group's name"},
        {"{\"groups\":{\"\":{}}}", "a group's name"},
        {G(""), "groups.a: type is ip, token, jwt or password"},
        {G("\"type\":\"none\""), "type is ip, token"},
        {G("\"type\":\"ip\""), "a group of type ip needs range"},
        {G(IP ",\"value\":\"x\""), "a group of type ip has no value"},
        {G(IP ",\"header\":\"x\""), "has none of header, cookie and param"},
        {G("\"type\":\"ip\",\"range\":\"10.0.0.0/33\""), "groups.a.range: \"10.0.0.0/33\" is no network"},
        {G("\"type\":\"ip\",\"range\":[]"), "one network at least"},
        {G("\"type\":\"ip\",\"range\":7"), "a network such as"},
        {G("\"type\":\"ip\",\"ranges\":\"\""), "\"ranges\" is unknown"},
        {G("\"type\":\"token\",\"value\":\"short\""), "at least 16 bytes"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"a\",\"param\":\"b\""), "one of header, cookie"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"a b\""), "no name of a header"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"Host\""), "header host has another meaning"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"Transfer-Encoding\""), "another meaning"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"X-Forwarded-Host\""), "another meaning"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"header\":\"Cookie\""), "another meaning"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"cookie\":\"a;b\""), "no name of a cookie"},
        {G("\"type\":\"jwt\",\"algorithm\":\"HS256\""), "a group of type jwt needs secret"},
        {G("\"type\":\"jwt\",\"secret\":\"" KEY "\""), "a group of type jwt needs algorithm"},
        {G("\"type\":\"jwt\",\"secret\":\"" KEY "\",\"algorithm\":\"none\""), "algorithm is HS256, HS384"},
        {G("\"type\":\"jwt\",\"secret\":\"tooshort\",\"algorithm\":\"HS256\""), "at least 32 bytes"},
        {G("\"type\":\"jwt\",\"secret\":\"" KEY "\",\"algorithm\":\"RS256\""), "no public key in PEM"},
        {G("\"type\":\"jwt\",\"sources\":[]"), "an array of objects such as"},
        {G("\"type\":\"jwt\",\"sources\":[\"header\"]"), "an array of objects such as"},
        {G("\"type\":\"jwt\",\"sources\":[{\"body\":\"x\"}]"), "an array of objects such as"},
        {G("\"type\":\"jwt\",\"claims\":{\"exp\":1}"), "exp is always looked at"},
        {G("\"type\":\"jwt\",\"claims\":{\"a\":[]}"), "groups.a.claims.a: one value at least"},
        {G("\"type\":\"jwt\",\"claims\":{\"a\":{}}"), "groups.a.claims.a: a text, a whole number"},
        {G("\"type\":\"jwt\",\"claims\":{\"a\":1.5}"), "a text, a whole number"},
        {G("\"type\":\"password\",\"username\":\"ann\""), "a group of type password needs password"},
        {G("\"type\":\"password\",\"username\":\"ann\",\"password\":\"hunter22\""), "password in plain text"},
        {G("\"type\":\"password\",\"username\":\"a:b\",\"password\":\"" HASH "\""), "no colon"},
        {G("\"type\":\"password\",\"username\":\"a\",\"password\":\"" HASH "\",\"algorithm\":\"md5\""),
         "algorithm is crypt"},
        {G("\"type\":\"password\",\"username\":\"a\",\"password\":\"" HASH "\",\"salt\":\"x\""), "salt belongs to"},
        {G("\"type\":\"password\",\"username\":\"a\",\"password\":\"" HASH "\",\"max_age\":59"),
         "groups.a.max_age: a number of seconds"},
        {G("\"type\":\"password\",\"username\":\"a\",\"password\":\"" HASH "\",\"idle\":2592001"),
         "from 60 to 2592000"},
        {G("\"type\":\"password\",\"username\":\"a\",\"password\":\"" HASH "\",\"idle\":\"60\""),
         "groups.a.idle: a number"},
        {G("\"type\":\"ip\",\"range\":\"192.0.2.0/24\",\"idle\":60"), "a group of type ip has no idle"},
        {G("\"type\":\"token\",\"value\":\"" TOKEN "\",\"cookie\":\"" HAPROXY_LOGIN_COOKIE "\""), "is the edge's own"},
        {"{\"groups\":{\"a\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"" HASH
         "\"},\"b\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"" HASH "\"}}}",
         "groups.b: another group has this username"},
        {R("[]"), "permissions: an object of groups"},
        {R("{\"b\":{}}"), "permissions: there is no group \"b\""},
        {R("{\"a\":true}"), "permissions.a: an object of programs"},
        {R("{\"a\":{\"Terminal\":true}}"), "\"Terminal\" is no program"},
        {R("{\"a\":{\"terminal-1\":true}}"), "\"terminal-1\" is no program"},
        {R("{\"a\":{\"http\":null}}"), "permissions.a.http: true, false, a number"},
        {R("{\"a\":{\"http\":65536}}"), "a number up to 65535"},
        {R("{\"a\":{\"http\":-1}}"), "a number up to 65535"},
        {R("{\"a\":{\"http\":\"1-\"}}"), "true, false, a number"},
        {R("{\"a\":{\"http\":\"2-1\"}}"), "true, false, a number"},
        {R("{\"a\":{\"http\":\"1-2-3\"}}"), "true, false, a number"},
        {R("{\"a\":{\"http\":\"100000\"}}"), "true, false, a number"},
        {R("{\"a\":{\"http\":[true]}}"), "true, false, a number"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_errmsg e = {""};
        int rc = 0;
        struct edge_policy *p = edge_policy_create(ht_slice_str(rows[i].text), &rc, &e);
        if (p || !strstr(e.text, rows[i].says))
            printf("# row %zu: %s\n", i, p ? "it is taken" : e.text);
        CU_ASSERT(!p && rc == HT_EINVAL && strstr(e.text, rows[i].says));
        CU_ASSERT(!strstr(e.text, "hunter") && !strstr(e.text, "tooshort") && !strstr(e.text, "$2y$"));
        edge_policy_destroy(&p);
    }
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

/* Each document cut at each byte is refused, and nothing is left of it. */
static void pieces_and_memory(void) {
    static const char doc[] = "{\"default\":\"deny\"," GROUPS "," RULES "}",
                      claims[] = "{\"groups\":{\"\\u0061b\":{\"type\":\"jwt\","
                                 "\"algorithm\":\"HS256\",\"secret\":\"" KEY
                                 "\\u0021\",\"sources\":[{\"header\":\"\\u0041uth\"},"
                                 "{\"cookie\":\"c\"}],\"claims\":{\"aud\":[\"x\",\"\\u0079\"],\"ok\":true,\"n\":7}}}}";
    const char *const docs[] = {doc, claims};
    for (size_t k = 0; k < HT_ARRAY_LEN(docs); k++) {
        size_t n = strlen(docs[k]);
        int rc;
        for (size_t i = 0; i < n; i++) {
            char *copy = malloc(i ? i : 1);
            memcpy(copy, docs[k], i);
            CU_ASSERT_PTR_NULL(edge_policy_create(ht_slice_of(copy, i), &rc, NULL));
            free(copy);
        }
        CU_ASSERT_EQUAL(ht_mem_live(), 0);
        for (long i = 0;; i++) {
            ht_mem_fail_at(i);
            struct edge_policy *p = edge_policy_create(ht_slice_of(docs[k], n), &rc, NULL);
            bool failed = !ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            CU_ASSERT(failed ? !p && rc == HT_ENOMEM : p && rc == HT_OK);
            edge_policy_destroy(&p);
            CU_ASSERT_EQUAL(ht_mem_live(), 0);
            if (!failed || i > 200)
                break;
        }
    }
    struct edge_policy *p = policy_of(doc);
    struct edge_visit v = visit("http", 1, "", "/?key=a&b=c", "Cookie: sid=x; b=c\r\nX-Key: x\r\n" ANN);
    size_t live = ht_mem_live();
    for (long i = 0;; i++) {
        struct edge_strip s = {.authorization = false};
        ht_mem_fail_at(i);
        int rc = edge_policy_strip(p, &v, &s);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(rc, failed ? HT_ENOMEM : HT_OK);
        edge_strip_free(&s);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
        if (!failed || i > 50)
            break;
    }
    struct edge_policy *second = edge_policy_keep(p);
    edge_policy_destroy(&p);
    CU_ASSERT(edge_policy_asks(second));
    edge_policy_destroy(&second);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void tokens(void) {
    static const struct row rows[] = {
        {"curl", 1, "198.51.100.1", "/", "authorization: Bearer " JWT "\r\n", "allow", "jwt"},
        {"curl", 1, "198.51.100.1", "/", "AUTHORIZATION: bEARER\t " JWT "\r\n", "allow", "jwt"},
        {"curl", 1, "198.51.100.1", "/", "authorization: " JWT "\r\n", "allow", "jwt"},
        {"curl", 1, "198.51.100.1", "/", "authorization: Bearer " OLD "\r\n", "login", "expired"},
        {"exec", 1, "198.51.100.1", "/", "authorization: Bearer " JWT "\r\n", "deny", "nobody"},
        {"curl", 1, "198.51.100.1", "/", "authorization: Bearer " JWT "\r\nauthorization: Bearer " JWT "\r\n", "deny",
         "twice"},
        {"curl", 1, "198.51.100.1", "/", "authorization: Bearer " JWT ", Bearer " JWT "\r\n", "login", "malformed"},
    };
    decide_rows("{" GROUPS "," RULES "}", rows, HT_ARRAY_LEN(rows));
}

/* By the port of another program there is no way around what is said of that program. */
static void ports_of_programs(void) {
    static const struct {
        const char *rules, *also;
        enum edge_verdict verdict;
    } rows[] = {
        {"\"default\":\"deny\",\"permissions\":{\"a\":{\"http\":true}}", "", EDGE_ALLOW},
        {"\"default\":\"deny\",\"permissions\":{\"a\":{\"http\":true}}", "terminal", EDGE_DENY},
        {"\"default\":\"deny\",\"permissions\":{\"a\":{\"http\":true,\"terminal\":false}}", "terminal", EDGE_DENY},
        {"\"default\":\"deny\",\"permissions\":{\"a\":{\"http\":true,\"terminal\":[2]}}", "terminal", EDGE_ALLOW},
        {"\"default\":\"deny\",\"permissions\":{\"a\":{\"terminal\":true}}", "terminal", EDGE_DENY},
        {"\"default\":\"deny\",\"permissions\":{\"a\":{\"*\":true}}", "terminal", EDGE_ALLOW},
        {"\"default\":\"allow\",\"permissions\":{\"a\":{\"terminal\":false}}", "terminal", EDGE_DENY},
        {"\"default\":\"allow\",\"permissions\":{\"a\":{\"terminal\":false}}", "exec", EDGE_ALLOW},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char doc[300];
        struct edge_visit v = visit("http", 76, "192.0.2.1", "/", "");
        struct edge_decision d;
        snprintf(doc, sizeof doc, "{\"groups\":{\"a\":{\"type\":\"ip\",\"range\":\"0.0.0.0/0\"}},%s}", rows[i].rules);
        struct edge_policy *p = policy_of(doc);
        v.also = ht_slice_str(rows[i].also);
        edge_policy_decide(p, &v, NOW, &d);
        CU_ASSERT_EQUAL(d.verdict, rows[i].verdict);
        edge_policy_destroy(&p);
    }
}

/* Who has logged in on a page, and who would read a refusal. */
static void logins_of_pages(void) {
    static const struct {
        const char *heads;
        enum edge_reader reader;
    } readers[] = {
        {"", EDGE_READER_PROGRAM},
        {"accept: */*", EDGE_READER_PROGRAM},
        {"Accept: text/html,application/xml;q=0.9,*/*;q=0.8", EDGE_READER_PERSON},
        {"accept: image/png\r\nACCEPT:  Text/HTML;q=0.5", EDGE_READER_PERSON},
        {"accept: text/html\r\nsec-fetch-mode: navigate", EDGE_READER_PERSON},
        {"accept: text/html\r\nSec-Fetch-Mode: cors", EDGE_READER_PAGE},
        {"accept: */*\r\nsec-fetch-mode: no-cors", EDGE_READER_PAGE},
        {"accept: */*\r\nsec-fetch-mode: navigate", EDGE_READER_PROGRAM},
        {"accept: application/xhtml+text/html", EDGE_READER_PROGRAM},
    };
    struct edge_decision d;
    struct ht_slice ticket;
    for (size_t i = 0; i < HT_ARRAY_LEN(readers); i++) {
        struct edge_visit v = visit("terminal", 1, "", "/", readers[i].heads);
        CU_ASSERT_EQUAL(edge_policy_reader(&v), readers[i].reader);
    }
    struct edge_policy *p = policy_of("{" GROUPS "," RULES "}"), *same = policy_of("{" GROUPS "," RULES "}"),
                       *none = policy_of("{}");
    CU_ASSERT(edge_policy_is_of(p, ht_slice_str("{" GROUPS "," RULES "}")) &&
              !edge_policy_is_of(p, ht_slice_str("{}")));
    CU_ASSERT_NOT_EQUAL(edge_policy_serial(p), edge_policy_serial(same));
    /* The ticket: once, in any field of cookies, by exactly this name. */
    struct edge_visit v = visit("terminal", 1, "", "/", "cookie: a=b; " HAPROXY_LOGIN_COOKIE "=xyz");
    CU_ASSERT(edge_policy_ticket(p, &v, &ticket) && ht_slice_is(ticket, "xyz") &&
              !edge_policy_ticket(none, &v, &ticket));
    v.heads = ht_slice_str("cookie: " HAPROXY_LOGIN_COOKIE "=a\r\ncookie: " HAPROXY_LOGIN_COOKIE "=b");
    CU_ASSERT_FALSE(edge_policy_ticket(p, &v, &ticket));
    v.heads = ht_slice_str("cookie: __host-hoody-edge=a; x" HAPROXY_LOGIN_COOKIE "=b");
    CU_ASSERT_FALSE(edge_policy_ticket(p, &v, &ticket));
    /* Whoever has logged in may what the group may, and no more. */
    v = visit("terminal", 1, "", "/", "");
    v.login = ht_slice_str("team");
    edge_policy_decide(p, &v, NOW, &d);
    CU_ASSERT(d.verdict == EDGE_ALLOW && strcmp(d.why, "page") == 0 && ht_slice_is(d.group, "team"));
    v.program = ht_slice_str("exec");
    edge_policy_decide(p, &v, NOW, &d);
    CU_ASSERT(d.verdict != EDGE_ALLOW && strcmp(d.why, "group") == 0);
    static const char *const others[] = {"ci", "office", "app", "tea", "teams", "*"};
    for (size_t i = 0; i < HT_ARRAY_LEN(others); i++) {
        v.program = ht_slice_str("terminal");
        v.login = ht_slice_str(others[i]);
        edge_policy_decide(p, &v, NOW, &d);
        CU_ASSERT_NOT_EQUAL(d.verdict, EDGE_ALLOW);
    }
    /* What is to be checked of a form. */
    char word[] = "sesame";
    v.login = ht_slice_of("", 0);
    CU_ASSERT(edge_policy_claim(p, &v, ht_slice_str("ann"), ht_slice_str(word), &d) && d.claim.hash &&
              ht_slice_is(d.group, "team"));
    memset(word, 'x', sizeof word - 1);
    CU_ASSERT(ht_slice_is(d.claim.password, "sesame") && ht_slice_is(d.claim.name, "ann"));
    CU_ASSERT(edge_policy_claim(p, &v, ht_slice_str("bob"), ht_slice_str("x"), &d) && !d.claim.hash && d.group.n == 0);
    v.program = ht_slice_str("exec");
    CU_ASSERT_FALSE(edge_policy_claim(p, &v, ht_slice_str("ann"), ht_slice_str("sesame"), &d));
    struct edge_login_age age = edge_policy_login_age(p, ht_slice_str("team"));
    CU_ASSERT(age.max_age_s == HAPROXY_LOGIN_MAX_AGE_S && age.idle_s == HAPROXY_LOGIN_IDLE_S);
    edge_policy_destroy(&p);
    edge_policy_destroy(&same);
    edge_policy_destroy(&none);
    p = policy_of("{\"groups\":{\"a\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"" HASH
                  "\",\"max_age\":2592000,\"idle\":60}}}");
    age = edge_policy_login_age(p, ht_slice_str("a"));
    CU_ASSERT(age.max_age_s == POLICY_AGE_MAX && age.idle_s == POLICY_AGE_MIN);
    edge_policy_destroy(&p);
}

static const struct tap_test tests[] = {
    {"who may what, by each kind of group, with each way to say it twice or wrongly", decisions},
    {"tokens of JSON: good, old, for another program, two at once", tokens},
    {"http by the port of another program needs what that program needs", ports_of_programs},
    {"what would help a visitor, and whose password is to be checked", challenges_and_claims},
    {"nobody is asked about a container that everybody may visit", asking},
    {"secrets of all groups are taken out, and nothing else", strips},
    {"who has logged in on a page may what the group may; who would read a refusal", logins_of_pages},
    {"documents with a mistake: the member is named, and no secret", mistakes},
    {"documents cut at each byte; each allocation fails", pieces_and_memory},
    {NULL, NULL},
};

int main(void) { return tap_main("edge, policy", tests); }
