/* What documents say of answers that are kept and of pages: read, changed, purged, and as entries of the maps. */
#include "base/mem.h"
#include "edge/cache.h"
#include "edge/pages.h"
#include "edge/proxy_settings.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

#define A "890abcdef12345678901cdef"
#define OTHER "0123456789abcdef01234567"
#define P "67e89abc123def456789abcd"

static const struct edge_actor somebody = {.who = "uid 0", .what = "containerSettings", .from = "unix"};

/* ---- answers that are kept ---- */

static void read_as(struct edge_cache *c, const char *json, bool wish) {
    struct ht_errmsg err = {""};
    int rc = edge_cache_read(c, ht_slice_str(json), wish, &err);
    if (rc < 0)
        printf("# %s: %s\n", json, err.text);
    CU_ASSERT_EQUAL_FATAL(rc, HT_OK);
}

static void is_text(const struct edge_cache *c, bool wish, const char *want) {
    struct ht_buf b = {0};
    CU_ASSERT_EQUAL(edge_cache_write(c, wish, &b), HT_OK);
    if (!ht_slice_is(ht_buf_slice(&b), want))
        printf("# %.*s\n", (int)ht_buf_size(&b), (const char *)ht_buf_head(&b));
    CU_ASSERT_TRUE(ht_slice_is(ht_buf_slice(&b), want));
    ht_buf_free(&b);
}

static void reading(void) {
    static const char *const bad[] = {"[]",
                                      "{",
                                      "{\"enabled\":1}",
                                      "{\"on\":true}",
                                      "{\"services\":[]}",
                                      "{\"services\":{\"a b\":true}}",
                                      "{\"services\":{\"web\":1}}",
                                      "{\"services\":{\"web\":true,\"web\":false}}",
                                      "{\"generation\":1}",
                                      "{\"generations\":{}}",
                                      "{} x"};
    struct edge_cache c;
    struct ht_errmsg err;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        err.text[0] = '\0';
        CU_ASSERT_EQUAL(edge_cache_read(&c, ht_slice_str(bad[i]), true, &err), HT_EINVAL);
        CU_ASSERT_TRUE(strncmp(err.text, "cache: ", 7) == 0);
    }
    read_as(&c, NULL, true);
    is_text(&c, true, "{\"enabled\":false,\"services\":{}}");
    read_as(&c, "{\"services\":{\"web\":true,\"http\":false},\"enabled\":true}", true);
    is_text(&c, true, "{\"enabled\":true,\"services\":{\"web\":true,\"http\":false}}");
    is_text(&c, false,
            "{\"enabled\":true,\"services\":{\"web\":true,\"http\":false},\"generation\":0,\"generations\":{}}");
    read_as(&c,
            "{\"enabled\":true,\"services\":{\"web\":false},\"generation\":7,\"generations\":{\"exec\":9,\"web\":8}}",
            false);
    is_text(&c, false,
            "{\"enabled\":true,\"services\":{\"web\":false},\"generation\":7,\"generations\":{\"web\":8,\"exec\":9}}");
    /* One too many. */
    char text[EDGE_CACHE_SERVICES * 16 + 64] = "{\"services\":{", *p = text + strlen(text);
    for (unsigned i = 0; i <= EDGE_CACHE_SERVICES; i++)
        p += sprintf(p, "%s\"s%c%c\":true", i ? "," : "", 'a' + i / 26, 'a' + i % 26);
    sprintf(p, "}}");
    CU_ASSERT_EQUAL(edge_cache_read(&c, ht_slice_str(text), true, &err), HT_EINVAL);
    CU_ASSERT_EQUAL(edge_cache_purge(&c, "more", 1), HT_ELIMIT);
}

static void purging(void) {
    struct edge_cache c, d;
    read_as(&c, "{\"enabled\":true,\"services\":{\"web\":false,\"exec\":true}}", true);
    d = c;
    CU_ASSERT_EQUAL(edge_cache_purge(&c, NULL, 1000), HT_OK);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, NULL), 1000);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, &c.services[0]), 0);          /* web: off */
    CU_ASSERT_EQUAL(edge_cache_generation(&c, &c.services[1]), UINT64_MAX); /* exec: as all */
    /* Of one service; the clock was set back. */
    CU_ASSERT_EQUAL(edge_cache_purge(&c, "terminal", 500), HT_OK);
    CU_ASSERT_EQUAL(c.n, 3);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, &c.services[2]), 1001);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, NULL), 1000);
    CU_ASSERT_TRUE(edge_cache_same(&c, &d) && edge_cache_same(&d, &c));
    /* Of all: newer than that of the service, which has none any more. */
    CU_ASSERT_EQUAL(edge_cache_purge(&c, NULL, 600), HT_OK);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, NULL), 1002);
    CU_ASSERT_EQUAL(c.n, 2);
    /* What is on alone. */
    read_as(&c, "{\"services\":{\"web\":true}}", true);
    CU_ASSERT_FALSE(edge_cache_same(&c, &d));
    CU_ASSERT_FALSE(edge_cache_same(&d, &c));
    CU_ASSERT_EQUAL(edge_cache_purge(&c, NULL, 5), HT_OK);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, NULL), 0);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, &c.services[0]), 5);
    CU_ASSERT_EQUAL(edge_cache_purge(&c, "web", 9), HT_OK);
    CU_ASSERT_EQUAL(edge_cache_generation(&c, &c.services[0]), 9);
}

/* ---- pages ---- */

static void pages(void) {
    struct ht_errmsg err;
    static const struct {
        const char *json, *why; /* NULL: they are good */
    } rows[] = {
        {"{}", NULL},
        {"{\"503\":\"x\",\"off\":\"{{status}} {{title}} {{code}} {{message}} {{host}} { } }}\"}", NULL},
        {"[]", "pages must be an object"},
        {"{\"503\":1}", "pages must be an object"},
        {"{\"503\":\"x\"", "pages must be an object"},
        {"{\"200\":\"x\"}", "there is no page for 200; there is one for a status, such as 503, or for malformed"},
        {"{\"5030\":\"x\"}", "no page for 5030"},
        {"{\"\":\"x\"}", "no page for "},
        {"{\"503\":\"\"}", "0 bytes"},
        {"{\"503\":\"{{x}}\"}", "{{x stands for nothing"},
        {"{\"503\":\"{{status\"}", "{{status stands for nothing"},
        {"{\"503\":\"{{ status }}\"}", "{{ status  stands for nothing"},
        {"{\"503\":\"{{{status}}}\"}", "stands for nothing"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        int rc = edge_pages_check(ht_slice_str(rows[i].json), &err);
        CU_ASSERT_EQUAL(rc, rows[i].why ? HT_EINVAL : HT_OK);
        bool said = !rows[i].why || strstr(err.text, rows[i].why);
        if (!said)
            printf("# %s: %s\n", rows[i].json, err.text);
        CU_ASSERT_TRUE(said);
    }
}

/* ---- documents ---- */

static char folder[64];
static struct io_loop *loop;
static struct edge_admin *admin;
static struct edge_maps *maps;
static struct edge_state *state;

static void begin(void) {
    struct ht_errmsg err;
    snprintf(folder, sizeof folder, "/tmp/ht-settings-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    loop = io_loop_create();
    admin = edge_admin_create(loop, folder, EDGE_ADMIN_OF_WORKER);
    maps = edge_maps_create(loop, folder, admin);
    CU_ASSERT_PTR_NOT_NULL_FATAL(maps);
    CU_ASSERT_EQUAL_FATAL(edge_state_open(&state, folder, &err), HT_OK);
}

static void end(void) {
    char line[128];
    edge_state_close(&state);
    edge_admin_destroy(&admin);
    edge_maps_destroy(&maps);
    io_loop_destroy(&loop);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void says(enum edge_kind kind, const char *id, const char *cache, const char *pages_text) {
    const struct edge_change changes[] = {{EDGE_CACHE, ht_slice_str(cache)}, {EDGE_PAGES, ht_slice_str(pages_text)}};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL(edge_state_change(state, kind, id, EDGE_ANY_VERSION, changes, 2, &somebody, NULL, &err), HT_OK);
}

static unsigned wanted;

static void count_wanted(void *ctx) {
    (void)ctx;
    wanted++;
}

static int start(struct edge_proxy_settings **p, const char *pages_folder, struct ht_errmsg *err) {
    wanted = 0;
    return edge_proxy_settings_start(
        p,
        &(struct edge_proxy_settings_config){
            .loop = loop, .state = state, .maps = maps, .pages = pages_folder, .wanted = count_wanted},
        err);
}

static bool has(enum haproxy_map map, const char *key, const char *value) {
    const char *found = edge_maps_get(maps, map, key);
    return value ? found && strcmp(found, value) == 0 : !found;
}

static void documents(void) {
    struct edge_proxy_settings *p;
    struct ht_errmsg err;
    begin();
    says(EDGE_CONTAINER, A,
         "{\"enabled\":true,\"services\":{\"web\":false},\"generation\":7,\"generations\":{\"exec\":9}}",
         "{\"503\":\"abc\",\"off\":\"d\"}");
    says(EDGE_PROJECT, P, NULL, "{\"404\":\"p\"}");
    CU_ASSERT_EQUAL(start(&p, "/dev/null/none", &err), HT_EIO);
    CU_ASSERT_PTR_NULL(p);
    CU_ASSERT_EQUAL_FATAL(start(&p, NULL, &err), HT_OK);
    CU_ASSERT_TRUE(has(HAPROXY_MAP_CACHES, A, "7") && has(HAPROXY_MAP_CACHES, A ".web", "-") &&
                   has(HAPROXY_MAP_CACHES, A ".exec", "9"));
    CU_ASSERT_TRUE(has(HAPROXY_MAP_PAGES, "container." A ".503", "YWJj") &&
                   has(HAPROXY_MAP_PAGES, "container." A ".off", "ZA==") &&
                   has(HAPROXY_MAP_PAGES, "project." P ".404", "cA=="));
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_PAGES), 3);
    CU_ASSERT_EQUAL(wanted, 0); /* who starts it sees it */
    /* Another container, and then less of the first one. */
    says(EDGE_CONTAINER, OTHER, "{\"enabled\":true,\"generation\":3}", NULL);
    says(EDGE_CONTAINER, A, "{\"services\":{\"exec\":true},\"generation\":10}", "{\"404\":\"e\",\"teapot\":\"x\"}");
    CU_ASSERT_TRUE(has(HAPROXY_MAP_CACHES, A, NULL) && has(HAPROXY_MAP_CACHES, A ".web", NULL) &&
                   has(HAPROXY_MAP_CACHES, A ".exec", "10"));
    CU_ASSERT_TRUE(has(HAPROXY_MAP_PAGES, "container." A ".503", NULL) &&
                   has(HAPROXY_MAP_PAGES, "container." A ".404", "ZQ=="));
    /* What cannot be read keeps nothing; a document that goes takes all with it. */
    says(EDGE_CONTAINER, A, "{\"enabled\":7}", "[]");
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_CACHES), 1);
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_PAGES), 1);
    says(EDGE_CONTAINER, OTHER, NULL, NULL);
    says(EDGE_PROJECT, P, NULL, NULL);
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_CACHES), 0);
    CU_ASSERT_EQUAL(wanted, 3); /* with each change until then, and not with the last ones */
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_PAGES), 0);
    edge_proxy_settings_stop(&p);
    edge_proxy_settings_stop(&p);
    end();
}

static void files(void) {
    char line[256];
    struct ht_errmsg err;
    begin();
    snprintf(line, sizeof line, "cd %s && mkdir p && printf x >p/503.html && printf y >p/off.html && printf z >p/notes",
             folder);
    CU_ASSERT_EQUAL(system(line), 0);
    snprintf(line, sizeof line, "%s/p", folder);
    CU_ASSERT_EQUAL(edge_pages_load(maps, line, &err), HT_OK);
    CU_ASSERT_TRUE(has(HAPROXY_MAP_PAGES, "edge.503", "eA==") && has(HAPROXY_MAP_PAGES, "edge.off", "eQ=="));
    snprintf(line, sizeof line, "cd %s && rm p/503.html && printf x >p/off.html && printf x >p/teapot.html", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    snprintf(line, sizeof line, "%s/p", folder);
    CU_ASSERT_EQUAL(edge_pages_load(maps, line, &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/p/teapot.html: there is no page for teapot"));
    CU_ASSERT_TRUE(has(HAPROXY_MAP_PAGES, "edge.503", "eA==") && has(HAPROXY_MAP_PAGES, "edge.off", "eQ=="));
    snprintf(line, sizeof line, "rm %s/p/teapot.html", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    snprintf(line, sizeof line, "%s/p", folder);
    CU_ASSERT_EQUAL(edge_pages_load(maps, line, &err), HT_OK);
    CU_ASSERT_TRUE(has(HAPROXY_MAP_PAGES, "edge.503", NULL) && has(HAPROXY_MAP_PAGES, "edge.off", "eA=="));
    end();
}

/* What has no memory now is there later, and nothing else is lost. */
static void no_memory(void) {
    for (long i = 0; i < 60; i++) {
        struct edge_proxy_settings *p;
        struct ht_errmsg err;
        begin();
        says(EDGE_CONTAINER, A, "{\"enabled\":true,\"generation\":7}", "{\"503\":\"abc\"}");
        ht_mem_fail_at(i);
        int rc = start(&p, NULL, &err);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_TRUE(rc == HT_OK || (failed && rc == HT_ENOMEM && !p));
        if (rc < 0)
            CU_ASSERT_EQUAL_FATAL(start(&p, NULL, &err), HT_OK);
        while (!has(HAPROXY_MAP_CACHES, A, "7") || !has(HAPROXY_MAP_PAGES, "container." A ".503", "YWJj"))
            io_loop_turn(loop, true);
        edge_proxy_settings_stop(&p);
        end();
        if (!failed)
            break;
    }
}

static const struct tap_test tests[] = {
    {"what is said of answers that are kept is read strictly, and written the same", reading},
    {"a purge makes generations that never came before, whatever the clock says", purging},
    {"what is a page, and what is none", pages},
    {"documents become entries, and nothing of them stays behind", documents},
    {"files become entries, all or none", files},
    {"each allocation fails", no_memory},
    {NULL, NULL},
};

int main(void) { return tap_main("edge, settings", tests); }
