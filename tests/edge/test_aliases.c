/* Aliases: what their members may be, and what documents of them and of domains become in the map of hosts. */
#include "edge/aliases.h"

#include "base/clock.h"
#include "base/mem.h"
#include "support/tap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

#define P "67e89abc123def456789abcd"
#define C "890abcdef12345678901cdef"
#define D "0123456789abcdef01234567"
#define A1 "111111111111111111111111"
#define A2 "222222222222222222222222"
#define Q "aaaaaaaaaaaaaaaaaaaaaaaa"
#define REST_S UINT64_C(3600)
#define SUFFIX ".node1.containers.example.com"

/* ---- one alias ---- */

static const enum edge_alias_part all_parts[] = {EDGE_ALIAS_NAME_PART,   EDGE_ALIAS_PROJECT,  EDGE_ALIAS_CONTAINER,
                                                 EDGE_ALIAS_PROGRAM,     EDGE_ALIAS_PORT,     EDGE_ALIAS_INDEX,
                                                 EDGE_ALIAS_TARGET_PATH, EDGE_ALIAS_OVERRIDE, EDGE_ALIAS_EXACT,
                                                 EDGE_ALIAS_EXPIRES,     EDGE_ALIAS_ENABLED};

static void members_are_good_or_it_is_said_why(void) {
    static const struct {
        enum edge_alias_part part;
        const char *json, *said; /* NULL: it is good */
    } rows[] = {
        {EDGE_ALIAS_NAME_PART, "\"my-app\"", NULL},
        {EDGE_ALIAS_NAME_PART, "\"7\"", NULL},
        {EDGE_ALIAS_NAME_PART, "\"a-b--c\"", NULL},
        {EDGE_ALIAS_NAME_PART, "\"890abcdef12345678901cdeg\"", NULL},
        {EDGE_ALIAS_NAME_PART, "\"a\\u002db\"", NULL},
        {EDGE_ALIAS_NAME_PART, "\"My-App\"", "in lower case"},
        {EDGE_ALIAS_NAME_PART, "\"ab--c\"", "xn--"},
        {EDGE_ALIAS_NAME_PART, "\"" C "\"", "no id"},
        {EDGE_ALIAS_NAME_PART, "\"" C "-x\"", "no id"},
        {EDGE_ALIAS_NAME_PART, "\"localhost\"", "reserved"},
        {EDGE_ALIAS_NAME_PART, "\"a\\u0000b\"", "must be a text"},
        {EDGE_ALIAS_NAME_PART, "\"a\" x", "must be a JSON value"},
        {EDGE_ALIAS_NAME_PART, "\"a", "must be a text"},
        {EDGE_ALIAS_NAME_PART, "", "must be a text"},
        {EDGE_ALIAS_CONTAINER, "\"" C "\"", NULL},
        {EDGE_ALIAS_CONTAINER, "\"" C "0\"", "1 to 24 bytes"},
        {EDGE_ALIAS_CONTAINER, "\"890\"", "container_id must be an id"},
        {EDGE_ALIAS_PROGRAM, "\"web-app\"", NULL},
        {EDGE_ALIAS_PROGRAM, "\"web-\"", "program must be a service"},
        {EDGE_ALIAS_PORT, "65535", NULL},
        {EDGE_ALIAS_PORT, "null", NULL},
        {EDGE_ALIAS_PORT, "65536", "port must be"},
        {EDGE_ALIAS_PORT, "1.5", "port must be"},
        {EDGE_ALIAS_PORT, "-1", "port must be"},
        {EDGE_ALIAS_INDEX, "0", "index must be"},
        {EDGE_ALIAS_TARGET_PATH, "\"/\"", NULL},
        {EDGE_ALIAS_TARGET_PATH, "null", NULL},
        {EDGE_ALIAS_TARGET_PATH, "\"/a%20b/.well-known/x..y/\"", NULL},
        {EDGE_ALIAS_TARGET_PATH, "\"/..a\"", "begins with .."},
        {EDGE_ALIAS_TARGET_PATH, "\"/a/.\"", "no segment"},
        {EDGE_ALIAS_TARGET_PATH, "\"/a%2\"", "as %XX"},
        {EDGE_ALIAS_TARGET_PATH, "\"/a%00\"", "%00 may not"},
        {EDGE_ALIAS_TARGET_PATH, "\"/%c3%bc\"", NULL},
        {EDGE_ALIAS_TARGET_PATH, "\"/\xc3\xbc\"", "as %XX"},
        {EDGE_ALIAS_TARGET_PATH, "\"\"", "1 to 400 bytes"},
        {EDGE_ALIAS_EXPIRES, "\"2026-12-24T18:00:00Z\"", NULL},
        {EDGE_ALIAS_EXPIRES, "\"2026-12-24T18:00:00.25-01:30\"", NULL},
        {EDGE_ALIAS_EXPIRES, "\"2028-02-29T00:00:00Z\"", NULL},
        {EDGE_ALIAS_EXPIRES, "\"2027-02-29T00:00:00Z\"", "must be a time"},
        {EDGE_ALIAS_EXPIRES, "\"2026-12-24T24:00:00Z\"", "must be a time"},
        {EDGE_ALIAS_EXPIRES, "\"2026-12-24T18:00:00\"", "must be a time"},
        {EDGE_ALIAS_EXPIRES, "\"2026-12-24T18:00:00.Z\"", "must be a time"},
        {EDGE_ALIAS_EXPIRES, "\"2026-12-24T18:00:00+25:00\"", "must be a time"},
        {EDGE_ALIAS_EXPIRES, "\"2026-12-24T18:00:00+01:00x\"", "must be a time"},
        {EDGE_ALIAS_EXPIRES, "\"0000-00-00T00:00:00Z\"", "must be a time"},
        {EDGE_ALIAS_EXPIRES, "\"2026-13-01T00:00:00Z\"", "must be a time"},
        {EDGE_ALIAS_ENABLED, "false", NULL},
        {EDGE_ALIAS_ENABLED, "0", "true or false"},
        {EDGE_ALIAS_EXACT, "[true]", "true or false"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct edge_alias a = {.port = 0};
        struct ht_errmsg err = {""};
        int rc = edge_alias_set(&a, rows[i].part, ht_slice_str(rows[i].json), &err);
        bool ok = rows[i].said ? rc == HT_EINVAL && strstr(err.text, rows[i].said) != NULL : rc == HT_OK;
        if (!ok)
            printf("# %s of %s: %d %s\n", rows[i].json, edge_alias_parts[rows[i].part], rc, err.text);
        CU_ASSERT_TRUE(ok);
    }
}

static int set(struct edge_alias *a, enum edge_alias_part part, const char *json) {
    return edge_alias_set(a, part, ht_slice_str(json), NULL);
}

static void members_fit_together(void) {
    struct edge_alias a = {.port = 0}, b;
    struct ht_errmsg err;
    char text[EDGE_ALIAS_TIME];
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_EINVAL);
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_NAME_PART, "\"my-app\""), HT_OK);
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_PROJECT, "\"" P "\""), HT_OK);
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_CONTAINER, "\"" C "\""), HT_OK);
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_EINVAL);
    CU_ASSERT_STRING_EQUAL(err.text, "program is needed");
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_PROGRAM, "\"terminal\""), HT_OK);
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_alias_number(&a), 1);
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_PORT, "80"), HT_OK);
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_EINVAL);
    a.index = 0;
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_PROGRAM, "\"https\""), HT_OK);
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_INDEX, "81"), HT_OK);
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_EINVAL);
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_PORT, "null"), HT_OK);
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_OK);
    CU_ASSERT_EQUAL(a.port, 81);
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_TARGET_PATH, "\"/a/\""), HT_OK);
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_EINVAL);
    a.exact = true;
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_OK);
    a.override = true;
    CU_ASSERT_EQUAL(edge_alias_check(&a, &err), HT_EINVAL);
    a.override = false;
    CU_ASSERT_EQUAL(set(&a, EDGE_ALIAS_EXPIRES, "\"2026-12-24T19:30:00+01:30\""), HT_OK);
    CU_ASSERT_STRING_EQUAL(edge_alias_time(&a, text), "2026-12-24T18:00:00Z");
    a.disabled = true;
    /* What is written is read as the same. */
    b = (struct edge_alias){.port = 0};
    for (size_t i = 0; i < HT_ARRAY_LEN(all_parts); i++) {
        struct ht_buf out = {0};
        CU_ASSERT_EQUAL(edge_alias_put(&a, all_parts[i], &out), HT_OK);
        if (ht_buf_size(&out))
            CU_ASSERT_EQUAL(edge_alias_set(&b, all_parts[i], ht_buf_slice(&out), &err), HT_OK);
        ht_buf_free(&out);
    }
    CU_ASSERT_TRUE(strcmp(a.name, b.name) == 0 && strcmp(a.target, b.target) == 0 && a.port == b.port &&
                   a.expires == b.expires && a.exact == b.exact && a.disabled == b.disabled &&
                   strcmp(a.project, b.project) == 0 && strcmp(a.container, b.container) == 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

/* ---- all of them ---- */

static char folder[64];
static struct edge_state *state;
static struct edge_maps *maps;
static struct edge_aliases *aliases;
static const struct edge_actor somebody = {.who = "uid 0", .what = "aliasCreate", .from = "unix"};

static void start_aliases(void) {
    aliases = edge_aliases_create(&(struct edge_aliases_config){.loop = loop,
                                                                .state = state,
                                                                .maps = maps,
                                                                .suffix = SUFFIX,
                                                                .domain = "example.com",
                                                                .rest_ms = REST_S * 1000});
    CU_ASSERT_PTR_NOT_NULL_FATAL(aliases);
}

static void begin(void) {
    struct ht_errmsg err;
    snprintf(folder, sizeof folder, "/tmp/ht-aliases-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    CU_ASSERT_EQUAL_FATAL(edge_state_open(&state, folder, &err), HT_OK);
    loop = io_loop_create();
    maps = edge_maps_create(loop, folder, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(maps);
    start_aliases();
}

static void end(void) {
    char line[128];
    edge_aliases_destroy(&aliases);
    edge_maps_destroy(&maps);
    edge_state_close(&state);
    io_loop_destroy(&loop);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

/* NULL: the part goes. */
static void put(enum edge_kind kind, const char *id, const char *part, const char *json) {
    struct ht_errmsg err = {""};
    const struct edge_change change = {.part = part, .value = ht_slice_str(json)};
    int rc = edge_state_change(state, kind, id, EDGE_ANY_VERSION, &change, 1, &somebody, NULL, &err);
    CU_ASSERT_EQUAL(rc, HT_OK);
    if (rc < 0)
        printf("# %s\n", err.text);
}

static void make_alias(const char *id, const char *name, const char *container) {
    char quoted[2][80];
    snprintf(quoted[0], sizeof quoted[0], "\"%s\"", name);
    snprintf(quoted[1], sizeof quoted[1], "\"%s\"", container);
    const struct edge_change changes[] = {{.part = "alias", .value = ht_slice_str(quoted[0])},
                                          {.part = "project_id", .value = ht_slice_str("\"" P "\"")},
                                          {.part = "container_id", .value = ht_slice_str(quoted[1])},
                                          {.part = "program", .value = ht_slice_str("\"http\"")},
                                          {.part = "port", .value = ht_slice_str("3000")}};
    CU_ASSERT_EQUAL(edge_state_change(state, EDGE_ALIAS, id, 0, changes, HT_ARRAY_LEN(changes), &somebody, NULL, NULL),
                    HT_OK);
}

static void take_away(enum edge_kind kind, const char *id) {
    struct edge_change changes[EDGE_PARTS_MAX];
    const struct edge_doc *d = edge_state_get(state, kind, id);
    size_t n = edge_doc_parts(d);
    for (size_t i = 0; i < n; i++)
        changes[i] = (struct edge_change){.part = edge_doc_part_name(d, i)};
    CU_ASSERT_EQUAL(edge_state_change(state, kind, id, EDGE_ANY_VERSION, changes, n, &somebody, NULL, NULL), HT_OK);
}

/* NULL: there is no entry. */
static void leads(const char *host, const char *value) {
    const char *got = edge_maps_get(maps, HAPROXY_MAP_HOSTS, host);
    bool ok = got && value ? strcmp(got, value) == 0 : !got && !value;
    if (!ok)
        printf("# %s leads to %s, and not to %s\n", host, got ? got : "nothing", value ? value : "nothing");
    CU_ASSERT_TRUE(ok);
}

static void documents_become_hosts(void) {
    begin();
    make_alias(A1, "my-app", C);
    leads("my-app" SUFFIX, P "-" C "|http|3000|plain|0|my-app|");
    CU_ASSERT_STRING_EQUAL(edge_aliases_find(aliases, "my-app"), A1);
    put(EDGE_ALIAS, A1, "target_path", "\"/api/v1\"");
    leads("my-app" SUFFIX, P "-" C "|http|3000|prefix|0|my-app|/api/v1");
    put(EDGE_ALIAS, A1, "allow_path_override", "true");
    leads("my-app" SUFFIX, P "-" C "|http|3000|override|0|my-app|/api/v1");
    put(EDGE_ALIAS, A1, "target_path", "\"/\"");
    leads("my-app" SUFFIX, P "-" C "|http|3000|plain|0|my-app|/");
    put(EDGE_ALIAS, A1, "allow_path_override", NULL);
    put(EDGE_ALIAS, A1, "exact", "true");
    leads("my-app" SUFFIX, P "-" C "|http|3000|exact|0|my-app|/");
    put(EDGE_ALIAS, A1, "enabled", "false");
    leads("my-app" SUFFIX, P "-" C "|http|3000|off|0|my-app|/");
    put(EDGE_ALIAS, A1, "alias", "\"our-app\"");
    leads("my-app" SUFFIX, NULL);
    leads("our-app" SUFFIX, P "-" C "|http|3000|off|0|our-app|/");
    CU_ASSERT_PTR_NULL(edge_aliases_find(aliases, "my-app"));
    /* What cannot be read leads nowhere, until it can again. */
    put(EDGE_ALIAS, A1, "port", "0");
    leads("our-app" SUFFIX, NULL);
    put(EDGE_ALIAS, A1, "port", "3001");
    leads("our-app" SUFFIX, P "-" C "|http|3001|off|0|our-app|/");
    take_away(EDGE_ALIAS, A1);
    leads("our-app" SUFFIX, NULL);
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_HOSTS), 0);
    end();
}

static void a_name_has_one_holder(void) {
    begin();
    make_alias(A2, "shop", D);
    make_alias(A1, "shop", C);
    leads("shop" SUFFIX, P "-" C "|http|3000|plain|0|shop|");
    edge_aliases_destroy(&aliases);
    start_aliases();
    leads("shop" SUFFIX, P "-" C "|http|3000|plain|0|shop|");
    put(EDGE_ALIAS, A1, "alias", "\"other\"");
    leads("shop" SUFFIX, P "-" D "|http|3000|plain|0|shop|");
    put(EDGE_ALIAS, A1, "alias", "\"shop\"");
    take_away(EDGE_ALIAS, A2);
    leads("shop" SUFFIX, P "-" C "|http|3000|plain|0|shop|");
    leads("other" SUFFIX, NULL);
    end();
}

static void domains_follow(void) {
    begin();
    put(EDGE_DOMAIN, "shop.example.org", "domain", "{\"project\":\"x\",\"alias\":\"" A1 "\"}");
    leads("shop.example.org", NULL);
    make_alias(A1, "my-app", C);
    leads("shop.example.org", P "-" C "|http|3000|plain|0|my-app|");
    put(EDGE_DOMAIN, "www.example.org", "domain", "{\"alias\":\"" A1 "\"}");
    put(EDGE_ALIAS, A1, "container_id", "\"" D "\"");
    leads("shop.example.org", P "-" D "|http|3000|plain|0|my-app|");
    leads("www.example.org", P "-" D "|http|3000|plain|0|my-app|");
    make_alias(A2, "second", C);
    put(EDGE_DOMAIN, "www.example.org", "domain", "{\"alias\":\"" A2 "\"}");
    leads("www.example.org", P "-" C "|http|3000|plain|0|second|");
    leads("shop.example.org", P "-" D "|http|3000|plain|0|my-app|");
    /* Not by a name, and another one of the same name is another one. */
    put(EDGE_DOMAIN, "www.example.org", "domain", "{\"alias\":\"second\"}");
    leads("www.example.org", NULL);
    put(EDGE_DOMAIN, "www.example.org", "domain", "{\"alias\":null}");
    put(EDGE_DOMAIN, "www.example.org", "domain", "[\"" A2 "\"]");
    leads("www.example.org", NULL);
    take_away(EDGE_ALIAS, A1);
    leads("shop.example.org", NULL);
    put(EDGE_ALIAS, A2, "alias", "\"my-app\"");
    leads("shop.example.org", NULL);
    leads("my-app" SUFFIX, P "-" C "|http|3000|plain|0|my-app|");
    take_away(EDGE_DOMAIN, "shop.example.org");
    /* None is a host of the edge's own. */
    static const char *const own[] = {"example.com", "x.example.com", ("free" SUFFIX)};
    for (size_t i = 0; i < HT_ARRAY_LEN(own); i++) {
        put(EDGE_DOMAIN, own[i], "domain", "{\"alias\":\"" A2 "\"}");
        leads(own[i], NULL);
        CU_ASSERT_FALSE(edge_aliases_may_lead(aliases, own[i]));
    }
    put(EDGE_DOMAIN, "myexample.com", "domain", "{\"alias\":\"" A2 "\"}");
    leads("myexample.com", P "-" C "|http|3000|plain|0|my-app|");
    edge_aliases_destroy(&aliases);
    start_aliases();
    leads("myexample.com", P "-" C "|http|3000|plain|0|my-app|");
    end();
}

static int64_t now_s(void) { return ((int64_t)ht_now_ms() + ht_wall_offset_ms()) / 1000; }

/* Seconds from now, as a document has it. */
static void expires(const char *id, int64_t after, char value[16]) {
    char json[EDGE_ALIAS_TIME + 2], text[EDGE_ALIAS_TIME];
    struct edge_alias a = {.expires = now_s() + after};
    snprintf(json, sizeof json, "\"%s\"", edge_alias_time(&a, text));
    snprintf(value, 16, "%" PRId64, a.expires);
    put(EDGE_ALIAS, id, "expires_at", json);
}

static bool is_expired(const char *host) {
    const char *value = edge_maps_get(maps, HAPROXY_MAP_HOSTS, host);
    return value && strstr(value, "|expired|") != NULL;
}

static void aliases_expire(void) {
    char until[16], value[160];
    begin();
    make_alias(A1, "first", C);
    make_alias(A2, "second", C);
    put(EDGE_DOMAIN, "shop.example.org", "domain", "{\"alias\":\"" A1 "\"}");
    expires(A2, 7200, until);
    expires(A1, 3600, until);
    snprintf(value, sizeof value, P "-" C "|http|3000|plain|%s|first|", until);
    leads("first" SUFFIX, value);
    leads("shop.example.org", value);
    settle();
    CU_ASSERT_FALSE(is_expired("first" SUFFIX));
    ht_clock_skip(UINT64_C(3601) * 1000000);
    UNTIL(is_expired("first" SUFFIX));
    CU_ASSERT_TRUE(is_expired("shop.example.org"));
    CU_ASSERT_FALSE(is_expired("second" SUFFIX));
    /* It lives on. */
    expires(A1, 7200, until);
    CU_ASSERT_FALSE(is_expired("first" SUFFIX));
    ht_clock_skip(UINT64_C(3601) * 1000000);
    UNTIL(is_expired("second" SUFFIX));
    CU_ASSERT_FALSE(is_expired("first" SUFFIX));
    /* The clock goes on while nobody is there. */
    edge_aliases_destroy(&aliases);
    ht_clock_skip(UINT64_C(3601) * 1000000);
    start_aliases();
    CU_ASSERT_TRUE(is_expired("first" SUFFIX) && is_expired("shop.example.org"));
    put(EDGE_ALIAS, A1, "expires_at", NULL);
    leads("first" SUFFIX, P "-" C "|http|3000|plain|0|first|");
    settle();
    CU_ASSERT_TRUE(is_expired("second" SUFFIX));
    /* Off is off. */
    put(EDGE_ALIAS, A2, "enabled", "false");
    CU_ASSERT_FALSE(is_expired("second" SUFFIX));
    end();
}

static void give_up(const char *id, const char *name, const char *project) {
    char text[3][64];
    snprintf(text[0], sizeof text[0], "\"%s\"", name);
    snprintf(text[1], sizeof text[1], "\"%s\"", project);
    snprintf(text[2], sizeof text[2], "%" PRId64, now_s());
    const struct edge_change changes[] = {{.part = "alias", .value = ht_slice_str(text[0])},
                                          {.part = "project_id", .value = ht_slice_str(text[1])},
                                          {.part = "container_id"},
                                          {.part = "program"},
                                          {.part = "port"},
                                          {.part = EDGE_ALIAS_RELEASED, .value = ht_slice_str(text[2])}};
    CU_ASSERT_EQUAL(edge_state_change(state, EDGE_ALIAS, id, EDGE_ANY_VERSION, changes, HT_ARRAY_LEN(changes),
                                      &somebody, NULL, NULL),
                    HT_OK);
}

static void names_rest(void) {
    struct edge_released was;
    begin();
    CU_ASSERT_TRUE(edge_aliases_keeps_names(aliases));
    make_alias(A1, "shop", C);
    put(EDGE_DOMAIN, "shop.example.org", "domain", "{\"alias\":\"" A1 "\"}");
    CU_ASSERT_FALSE(edge_alias_released(edge_state_get(state, EDGE_ALIAS, A1), NULL));
    CU_ASSERT_EQUAL(edge_aliases_rests(aliases, "shop", Q), 0);
    give_up(A1, "shop", P);
    leads("shop" SUFFIX, NULL);
    leads("shop.example.org", NULL);
    CU_ASSERT_PTR_NULL(edge_aliases_find(aliases, "shop"));
    CU_ASSERT_TRUE_FATAL(edge_alias_released(edge_state_get(state, EDGE_ALIAS, A1), &was));
    CU_ASSERT_STRING_EQUAL(was.name, "shop");
    CU_ASSERT_STRING_EQUAL(was.project, P);
    CU_ASSERT_EQUAL(edge_aliases_rests(aliases, "shop", Q), was.at + (int64_t)REST_S);
    CU_ASSERT_EQUAL(edge_aliases_rests(aliases, "shop", P), 0);
    CU_ASSERT_EQUAL(edge_aliases_rests(aliases, "shops", Q), 0);
    /* Another one later, and a restart between. */
    ht_clock_skip(REST_S / 2 * 1000000);
    make_alias(A2, "shop", D);
    leads("shop" SUFFIX, P "-" D "|http|3000|plain|0|shop|");
    give_up(A2, "shop", P);
    edge_aliases_destroy(&aliases);
    start_aliases();
    CU_ASSERT_TRUE(edge_aliases_rests(aliases, "shop", Q) > was.at + (int64_t)REST_S);
    ht_clock_skip((REST_S / 2 + 1) * 1000000);
    UNTIL(edge_state_get(state, EDGE_ALIAS, A1) == NULL);
    CU_ASSERT_PTR_NOT_NULL(edge_state_get(state, EDGE_ALIAS, A2));
    CU_ASSERT_TRUE(edge_aliases_rests(aliases, "shop", Q) != 0);
    /* What is over while nobody is there goes at the start. */
    edge_aliases_destroy(&aliases);
    ht_clock_skip(REST_S * 1000000);
    start_aliases();
    CU_ASSERT_EQUAL(edge_aliases_rests(aliases, "shop", Q), 0);
    UNTIL(edge_state_count(state, EDGE_ALIAS) == 0);
    /* What is no such document is none. */
    make_alias(A1, "shop", C);
    put(EDGE_ALIAS, A1, EDGE_ALIAS_RELEASED, "\"now\"");
    CU_ASSERT_FALSE(edge_alias_released(edge_state_get(state, EDGE_ALIAS, A1), NULL));
    put(EDGE_ALIAS, A1, EDGE_ALIAS_RELEASED, "9223372036854775807");
    leads("shop" SUFFIX, P "-" C "|http|3000|plain|0|shop|");
    put(EDGE_ALIAS, A1, EDGE_ALIAS_RELEASED, "1");
    UNTIL(edge_state_count(state, EDGE_ALIAS) == 0);
    leads("shop" SUFFIX, NULL);
    end();
}

static void a_host_that_is_too_long_is_none(void) {
    char suffix[250], host[EDGE_HOST];
    struct ht_errmsg err;
    begin();
    edge_aliases_destroy(&aliases);
    memset(suffix, 'a', sizeof suffix - 1);
    suffix[0] = '.';
    suffix[sizeof suffix - 1] = '\0';
    aliases = edge_aliases_create(&(struct edge_aliases_config){
        .loop = loop, .state = state, .maps = maps, .suffix = suffix, .domain = "example.com"});
    make_alias(A1, "abcd", C);
    make_alias(A2, "abcde", C);
    CU_ASSERT_EQUAL(edge_aliases_host(aliases, "abcd", host, &err), HT_OK);
    leads(host, P "-" C "|http|3000|plain|0|abcd|");
    CU_ASSERT_EQUAL(edge_aliases_host(aliases, "abcde", host, &err), HT_EINVAL);
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_HOSTS), 1);
    end();
}

/* Whatever is missing at any moment, in the end the map is as the documents are. */
static void without_memory(void) {
    for (long i = 0; i < 40; i++) {
        char now[24];
        begin();
        snprintf(now, sizeof now, "%" PRId64, now_s() + (int64_t)REST_S);
        const struct edge_change given_up[] = {{.part = "container_id"},
                                               {.part = EDGE_ALIAS_RELEASED, .value = ht_slice_str(now)}};
        make_alias(A1, "my-app", C);
        put(EDGE_DOMAIN, "shop.example.org", "domain", "{\"alias\":\"" A1 "\"}");
        for (int step = 0; step < 4; step++) {
            static const struct edge_change changes[] = {{.part = "alias", .value = {"\"our-app\"", 9}},
                                                         {.part = "container_id", .value = {"\"" D "\"", 26}},
                                                         {.part = "target_path", .value = {"\"/a\"", 4}},
                                                         {.part = "domain", .value = {"{\"alias\":\"" A2 "\"}", 36}}};
            const struct edge_change *c = &changes[step];
            ht_mem_fail_at(i);
            int rc = edge_state_change(state, step == 3 ? EDGE_DOMAIN : EDGE_ALIAS, step == 3 ? "shop.example.org" : A1,
                                       EDGE_ANY_VERSION, c, 1, &somebody, NULL, NULL);
            ht_mem_fail_at(-1);
            if (rc < 0)
                put(step == 3 ? EDGE_DOMAIN : EDGE_ALIAS, step == 3 ? "shop.example.org" : A1, c->part, c->value.p);
            ht_clock_skip(300000);
            settle();
        }
        leads("my-app" SUFFIX, NULL);
        leads("our-app" SUFFIX, P "-" D "|http|3000|prefix|0|our-app|/a");
        leads("shop.example.org", NULL);
        CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_HOSTS), 1);
        ht_mem_fail_at(i);
        int rc = edge_state_change(state, EDGE_ALIAS, A1, EDGE_ANY_VERSION, given_up, HT_ARRAY_LEN(given_up), &somebody,
                                   NULL, NULL);
        ht_mem_fail_at(-1);
        if (rc < 0)
            rc = edge_state_change(state, EDGE_ALIAS, A1, EDGE_ANY_VERSION, given_up, HT_ARRAY_LEN(given_up), &somebody,
                                   NULL, NULL);
        CU_ASSERT_EQUAL(rc, HT_OK);
        ht_clock_skip(300000);
        settle();
        CU_ASSERT_TRUE(edge_aliases_rests(aliases, "our-app", Q) != 0);
        CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_HOSTS), 0);
        ht_clock_skip((REST_S * 2 - 1) * 1000000);
        ht_mem_fail_at(i);
        settle();
        ht_mem_fail_at(-1);
        ht_clock_skip(61 * UINT64_C(1000000));
        UNTIL(edge_state_count(state, EDGE_ALIAS) == 0);
        end();
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a member is good, or it is said what would be", members_are_good_or_it_is_said_why},
        {"members fit together, and what is written is read as the same", members_fit_together},
        {"documents become hosts, and follow changes", documents_become_hosts},
        {"of two with one name one has it", a_name_has_one_holder},
        {"a domain follows the alias that it has chosen, and no other of its name", domains_follow},
        {"aliases expire by the clock, and over a restart", aliases_expire},
        {"a name that a project has given up rests for others, over a restart", names_rest},
        {"a host that is too long is none", a_host_that_is_too_long_is_none},
        {"where memory is missing the map is right in the end", without_memory},
        {NULL, NULL},
    };
    return tap_main("aliases", tests);
}
