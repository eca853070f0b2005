/* Own domains as they are read at a start, and as documents change them. */
#include "edge/domains.h"

#include "base/clock.h"
#include "base/mem.h"
#include "io/site.h"
#include "support/tap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CAP 7

static const struct edge_actor somebody = {.who = "uid 0", .what = "domainPut", .from = "unix"};
static char folder[64], pem[IO_SITE_CERT + IO_SITE_KEY];
static struct io_loop *loop;
static struct edge_state *state;
static struct edge_admin *admin;
static struct edge_domains *domains;

static void on_settled(void *ctx) { (void)ctx; }

static int start(struct ht_errmsg *err) {
    static const struct edge_acme_config acme = {.daily_cap = CAP, .retry_ms = 1000};
    return edge_domains_start(&domains,
                              &(struct edge_domains_config){.loop = loop,
                                                            .folder = folder,
                                                            .domain = "example.com",
                                                            .node = "node1",
                                                            .acme = &acme,
                                                            .state = state,
                                                            .admin = admin,
                                                            .settled = on_settled},
                              err);
}

static void put(const char *name, const char *part, const char *json) {
    struct ht_errmsg err = {""};
    const struct edge_change change = {.part = part, .value = json ? ht_slice_str(json) : ht_slice_of(NULL, 0)};
    CU_ASSERT_EQUAL(edge_state_change(state, EDGE_DOMAIN, name, EDGE_ANY_VERSION, &change, 1, &somebody, NULL, &err),
                    HT_OK);
}

static void write_file(const char *name, const char *text) {
    struct ht_errmsg err = {""};
    CU_ASSERT_EQUAL_FATAL(edge_folder_write(folder, name, ht_slice_str(text), true, &err), HT_OK);
}

/* One that was issued, one that was brought, one that has failed, and one that there is nothing of. */
static void begin(void) {
    static struct io_site_pair authority, site;
    struct ht_errmsg err = {""};
    char text[200];
    snprintf(folder, sizeof folder, "/tmp/ht-edge-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    if (!pem[0]) {
        CU_ASSERT_EQUAL_FATAL(io_site_authority("a.example", &authority, &err), HT_OK);
        CU_ASSERT_EQUAL_FATAL(io_site_issue(&authority, "a.example", NULL, 30, &site, &err), HT_OK);
        snprintf(pem, sizeof pem, "%s%s", site.cert, site.key);
    }
    loop = io_loop_create();
    admin = edge_admin_create(loop, folder, EDGE_ADMIN_OF_WORKER);
    CU_ASSERT_EQUAL_FATAL(edge_state_open(&state, folder, &err), HT_OK);
    put("a.example", EDGE_DOMAIN_PART, "{\"alias\":\"111111111111111111111111\"}");
    put("b.a.example", EDGE_DOMAIN_PART, "{\"alias\":\"111111111111111111111111\"}");
    put("b.a.example", EDGE_DOMAIN_BROUGHT, "true");
    put("c.example", EDGE_DOMAIN_PART, "{\"alias\":\"111111111111111111111111\"}");
    put("d.example", EDGE_DOMAIN_PART, "{\"alias\":\"111111111111111111111111\"}");
    write_file("certs/a.example.pem", pem);
    write_file("brought/b.a.example.pem", pem);
    write_file("acme/tries/c.example.json", "{\"failures\":3,\"running\":true,\"next\":0,\"error\":\"no\"}\n");
    int64_t now = (int64_t)ht_now_ms() + ht_wall_offset_ms();
    snprintf(text, sizeof text, "{\"orders\":[%" PRId64 ",%" PRId64 "]}\n", now - 2000, now - 1000);
    write_file("acme/orders.json", text);
}

static void end(void) {
    char line[128];
    edge_admin_destroy(&admin);
    edge_domains_stop(&domains);
    edge_state_close(&state);
    io_loop_destroy(&loop);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void all_is_there(void) {
    struct edge_domain d;
    CU_ASSERT_EQUAL(edge_domains_count(domains), 4);
    CU_ASSERT_EQUAL(edge_domains_orders(domains), 2);
    CU_ASSERT_EQUAL(edge_domains_cap(domains), CAP);
    CU_ASSERT_TRUE(edge_domains_find(domains, "a.example", &d) && d.has_cert && !d.brought &&
                   d.state == EDGE_DOMAIN_ISSUED && d.failures == 0);
    CU_ASSERT_TRUE(edge_domains_find(domains, "b.a.example", &d) && d.has_cert && d.brought);
    CU_ASSERT_TRUE(edge_domains_find(domains, "c.example", &d) && !d.has_cert && d.failures == 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(d.error, "the edge ended"));
    CU_ASSERT_TRUE(edge_domains_find(domains, "d.example", &d) && !d.has_cert && d.failures == 0);
    CU_ASSERT_FALSE(edge_domains_find(domains, "example", &d));
    CU_ASSERT_EQUAL(edge_domains_behind(domains, "b.a.example"), 2);
    CU_ASSERT_EQUAL(edge_domains_behind(domains, "bb"), 2);
}

/* What an edge forgets at its start would be asked for again, which costs an order. */
static void all_is_read_or_it_does_not_start(void) {
    bool hit = true;
    long i = 0;
    for (; hit; i++) {
        struct ht_errmsg err = {""};
        begin();
        ht_mem_fail_at(i);
        int rc = start(&err);
        hit = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_TRUE(rc == HT_OK || (rc == HT_ENOMEM && strcmp(err.text, "out of memory") == 0 && !domains));
        if (rc == HT_ENOMEM)
            CU_ASSERT_EQUAL(start(&err), HT_OK);
        all_is_there();
        end();
    }
    CU_ASSERT_TRUE(i > 5);
}

static void documents_are_followed(void) {
    struct edge_domain d;
    struct ht_errmsg err = {""};
    begin();
    CU_ASSERT_EQUAL_FATAL(start(&err), HT_OK);
    CU_ASSERT_EQUAL(edge_domains_write(domains, &err), HT_OK);
    edge_domains_go(domains);
    put("b.a.example", EDGE_DOMAIN_BROUGHT, NULL);
    CU_ASSERT_TRUE(edge_domains_find(domains, "b.a.example", &d) && !d.has_cert && !d.brought);
    CU_ASSERT_EQUAL(edge_domains_bring(domains, "b.a.example", ht_slice_str(pem), &err), HT_EINVAL);
    put("b.a.example", EDGE_DOMAIN_BROUGHT, "true");
    CU_ASSERT_EQUAL(edge_domains_bring(domains, "b.a.example", ht_slice_str(pem), &err), HT_OK);
    CU_ASSERT_TRUE(edge_domains_find(domains, "b.a.example", &d) && d.has_cert && d.brought);
    put("d.example", EDGE_DOMAIN_BROUGHT, "true");
    CU_ASSERT_EQUAL(edge_domains_bring(domains, "d.example", ht_slice_str(pem), &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "is not for d.example"));
    put("c.example", EDGE_DOMAIN_BROUGHT, "true"); /* what has failed is forgotten */
    CU_ASSERT_TRUE(edge_domains_find(domains, "c.example", &d) && d.failures == 0);
    put("c.example", EDGE_DOMAIN_BROUGHT, NULL);
    put("c.example", EDGE_DOMAIN_PART, NULL);
    CU_ASSERT_FALSE(edge_domains_find(domains, "c.example", &d));
    CU_ASSERT_EQUAL(edge_domains_renew(domains, "c.example", &err), HT_EOF);
    CU_ASSERT_EQUAL(edge_domains_renew(domains, "a.example", &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--acme-email"));
    put("e.example", EDGE_DOMAIN_PART, "{\"alias\":\"111111111111111111111111\"}");
    CU_ASSERT_TRUE(edge_domains_find(domains, "e.example", &d) && !d.has_cert && d.state == EDGE_DOMAIN_NONE);
    end();
}

/* A cap that was used up must not be free again because its file was broken. */
static void an_odd_ledger_is_said(void) {
    static const char *const odd[] = {"", "{", "{\"orders\":[1,]}", "{\"orders\":[-1]}", "{\"orders\":{}}", "[]"};
    for (size_t i = 0; i < HT_ARRAY_LEN(odd); i++) {
        struct ht_errmsg err = {""};
        begin();
        write_file("acme/orders.json", odd[i]);
        CU_ASSERT_EQUAL(start(&err), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "acme/orders.json"));
        end();
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"whichever allocation fails, a start reads all of it or says that there is no memory",
         all_is_read_or_it_does_not_start},
        {"documents are followed, and a certificate that is brought must be for the name", documents_are_followed},
        {"orders of the last day that cannot be read are said", an_odd_ledger_is_said},
        {NULL, NULL},
    };
    return tap_main("domains", tests);
}
