/* The address book: what it makes of the maps, and each mistake that it may have. */
#include "base/mem.h"
#include "edge/edge_priv.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

#define P "67e89abc123def456789abcd"
#define C "890abcdef12345678901cdef"
#define D "0123456789abcdef01234567"

static struct io_loop *loop;
static struct edge_maps *maps;
static struct edge_book *book;
static char folder[64];

static void begin(void) {
    struct ht_errmsg err;
    snprintf(folder, sizeof folder, "/tmp/ht-edge-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    loop = io_loop_create();
    maps = edge_maps_create(loop, folder, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(maps);
}

static void end(void) {
    char line[128];
    edge_book_free(&book);
    edge_maps_destroy(&maps);
    io_loop_destroy(&loop);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static int load(const char *text, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    CU_ASSERT_EQUAL(edge_folder_write(folder, "book", ht_slice_str(text), false, err), HT_OK);
    return edge_book_load(&book, edge_path(folder, "book", path), maps, err);
}

static void is(enum haproxy_map map, const char *key, const char *value) {
    const char *got = edge_maps_get(maps, map, key);
    if (!value)
        CU_ASSERT_PTR_NULL(got);
    if (value && (!got || strcmp(got, value) != 0))
        printf("# %s: %s and not %s\n", key, got ? got : "nothing", value);
    CU_ASSERT_TRUE(!value || (got && strcmp(got, value) == 0));
}

#define ONE "\"project\":\"" P "\",\"container\":\"" C "\""

static void containers_become_entries(void) {
    struct ht_errmsg err = {""};
    begin();
    CU_ASSERT_EQUAL(edge_book_load(&book, NULL, maps, &err), HT_OK);
    is(HAPROXY_MAP_SERVICES, "terminal", "76");
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_CONTAINERS), 0);
    CU_ASSERT_EQUAL(load("{\"containers\":[{" ONE
                         ",\"address\":\"192.0.2.7\",\"services\":{\"terminal\":7000,\"web-app\":8080},"
                         "\"off\":[\"exec\"]},{\"project\":\"" P "\",\"container\":\"" D
                         "\",\"address\":\"2001:db8::7\",\"enabled\":false}],"
                         "\"services\":{\"sqlite\":55,\"files\":80},\"off\":[\"" D "\"]}",
                         &err),
                    HT_OK);
    is(HAPROXY_MAP_CONTAINERS, P "-" C, "192.0.2.7");
    is(HAPROXY_MAP_CONTAINERS, P "-" D, "2001:db8::7");
    is(HAPROXY_MAP_SERVICES, P "-" C ".terminal", "7000");
    is(HAPROXY_MAP_SERVICES, P "-" C ".web-app", "8080");
    is(HAPROXY_MAP_SERVICES, "terminal", "76");
    is(HAPROXY_MAP_SERVICES, "sqlite", "55");
    is(HAPROXY_MAP_SERVICES, "files", "80");
    is(HAPROXY_MAP_OFF, P "-" C ".exec", "1");
    is(HAPROXY_MAP_OFF, P "-" C, NULL);
    is(HAPROXY_MAP_OFF, P "-" D, "1");
    is(HAPROXY_MAP_OFF, D, "1");
    /* The next one takes its place, as a whole. */
    CU_ASSERT_EQUAL(load("{\"containers\":[{" ONE ",\"address\":\"192.0.2.8\"}]}", &err), HT_OK);
    is(HAPROXY_MAP_CONTAINERS, P "-" C, "192.0.2.8");
    is(HAPROXY_MAP_CONTAINERS, P "-" D, NULL);
    is(HAPROXY_MAP_SERVICES, P "-" C ".terminal", NULL);
    is(HAPROXY_MAP_SERVICES, "sqlite", "5");
    is(HAPROXY_MAP_SERVICES, "files", NULL);
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_OFF), 0);
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_SERVICES), HAPROXY_SERVICES);
    end();
}

#define BOX(members) "{\"containers\":[\n{" members "}]}"

static void mistakes_change_nothing(void) {
    static const struct {
        const char *text, *said;
    } bad[] = {
        {"", "ends too early"},
        {"[]", "an object with containers, services and off is wanted here"},
        {"{\"containers\":[]} x", "behind the value"},
        {"{\"containers\":[],\"containers\":[]}", "duplicate key"},
        {"{\"container\":[]}", "\"container\" is unknown; there are"},
        {BOX(ONE), ":2: error: a container needs project, container and address"},
        {BOX(ONE ",\"address\":\"192.0.2.7\",\"port\":1"), ":2: error: \"port\" is unknown; a container has"},
        {BOX("\"project\":\"" P "x\""), "an id has 24"},
        {BOX("\"project\":\"67E89ABC123DEF456789ABCD\""), "an id has 24"},
        {BOX("\"project\":1"), "an id is wanted here"},
        {BOX("\"services\":{}," ONE), "project and container stand before"},
        {BOX(ONE ",\"address\":\"localhost\""), "\"localhost\" is no IP address"},
        {BOX(ONE ",\"address\":\"192.0.2.7|1\""), "is no IP address"},
        {BOX(ONE ",\"address\":\"127.0.0.1\""), "127.0.0.1 is no address that a container can have"},
        {BOX(ONE ",\"address\":\"::1\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"::ffff:127.0.0.1\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"0.0.0.0\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"0.1.2.3\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"::\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"169.254.169.254\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"fe80::1\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"255.255.255.255\""), "no address that a container can have"},
        {BOX(ONE ",\"address\":\"ff02::1\""), "no address that a container can have"},
        {BOX(ONE ",\"services\":{\"http\":1}"), "\"http\" is no service"},
        {BOX(ONE ",\"services\":{\"a--b\":1}"), "is no service"},
        {BOX(ONE ",\"services\":{\"-a\":1}"), "is no service"},
        {BOX(ONE ",\"services\":{\"a b\":1}"), "is no service"},
        {BOX(ONE ",\"services\":{\"a;b\":1}"), "is no service"},
        {BOX(ONE ",\"services\":{\"a\":0}"), "a port from 1 to 65535"},
        {BOX(ONE ",\"services\":{\"a\":65536}"), "a port from 1 to 65535"},
        {BOX(ONE ",\"services\":{\"a\":\"1\"}"), "a port from 1 to 65535"},
        {BOX(ONE ",\"off\":[\"A\"]"), "\"A\" is no service"},
        {BOX(ONE ",\"enabled\":1"), "true or false is wanted here"},
        {"{\"off\":[\"x\"]}", "is no id of a project"},
        {"{\"containers\":[{" ONE ",\"address\":\"192.0.2.7\"},{" ONE ",\"address\":\"192.0.2.8\"}]}",
         "the container " P "-" C " is there twice"},
    };
    struct ht_errmsg err = {""};
    begin();
    CU_ASSERT_EQUAL(load("{\"containers\":[{" ONE ",\"address\":\"192.0.2.9\"}]}", &err), HT_OK);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        err.text[0] = '\0';
        int rc = load(bad[i].text, &err);
        if (rc != HT_EINVAL || !strstr(err.text, bad[i].said))
            printf("# %s\n# %d %s\n", bad[i].text, rc, err.text);
        CU_ASSERT_EQUAL(rc, HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].said));
    }
    CU_ASSERT_EQUAL(edge_book_load(&book, "/nonexistent/book", maps, &err), HT_EIO);
    is(HAPROXY_MAP_CONTAINERS, P "-" C, "192.0.2.9");
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_CONTAINERS), 1);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"containers, services and switches become entries, and go with the next file", containers_become_entries},
        {"a mistake is said with its line, and changes nothing", mistakes_change_nothing},
        {NULL, NULL},
    };
    return tap_main("book", tests);
}
