/* Labels and domains of the public port, and the host that a request asks for. */
#include "support/tap.h"
#include "wire/name.h"

struct row {
    const char *text, *read; /* NULL: it is none */
};

static const struct row labels[] = {
    {"a", "a"},
    {"App-2", "app-2"},
    {"3000", "3000"},
    {"a23456789-123456789-123456789-123456789-123456789-123456789-123",
     "a23456789-123456789-123456789-123456789-123456789-123"},
    {"xn--bcher-kva", "xn--bcher-kva"},   /* bücher */
    {"XN--MNCHEN-3YA", "xn--mnchen-3ya"}, /* münchen */
    {"xn--fiqs8s", "xn--fiqs8s"},         /* 中国 */
    {"xn--80ak6aa92e", "xn--80ak6aa92e"}, /* аррӏе */
    {"xn--ls8h", "xn--ls8h"},             /* one beyond the first plane */
    {"xn--", NULL},
    {"xn--a", NULL},                      /* U+0080 */
    {"xn--abc-", NULL},                   /* nothing behind ASCII */
    {"xn---abc", NULL},                   /* a delimiter behind nothing */
    {"xn--99999999", NULL},               /* beyond Unicode */
    {"xn--zzzzzzzzzz", "xn--zzzzzzzzzz"}, /* as odd as it looks */
    {"ab--cd", NULL},
    {"", NULL},
    {"-a", NULL},
    {"a-", NULL},
    {"-", NULL},
    {"a_b", NULL},
    {"a.b", NULL},
    {"a b", NULL},
    {"b\xc3\xbc"
     "cher",
     NULL},
    {"a234567890123456789012345678901234567890123456789012345678901234", NULL}, /* 64 */
};

static const struct row domains[] = {
    {"app.example.com", "app.example.com"},
    {"APP.Example.COM.", "app.example.com"},
    {"xn--bcher-kva.example", "xn--bcher-kva.example"},
    {"1.2.example", "1.2.example"},
    {"localhost", NULL},
    {"10.0.0.1", NULL},
    {"a..b", NULL},
    {".a.b", NULL},
    {"a.b..", NULL},
    {"a.b:80", NULL},
    {"*.a.b", NULL},
    {"", NULL},
    {".", NULL},
};

static const struct row asked[] = {
    {"App.Example.com", "app.example.com"},
    {"app.example.com:8080", "app.example.com"},
    {"app.example.com.:8080", "app.example.com"},
    {"app.example.com:", "app.example.com"},
    {"3000.t", "3000.t"},
    {"3000", "3000"},
    {"a..", "a."},
    {"[::1]:80", "[::1]"},
    {".", "."},
    {":80", NULL},
    {"", NULL},
};

static void test_read(void) {
    char label[WIRE_LABEL_ROOM], host[WIRE_HOST_ROOM];
    struct ht_errmsg err;
    for (size_t i = 0; i < HT_ARRAY_LEN(labels); i++) {
        err.text[0] = '\0';
        int rc = wire_label_read(label, ht_slice_str(labels[i].text), &err);
        CU_ASSERT_EQUAL(rc, labels[i].read ? 0 : HT_EINVAL);
        if (rc == 0 && labels[i].read)
            CU_ASSERT_EQUAL(strncmp(label, labels[i].read, strlen(labels[i].read)), 0);
        CU_ASSERT_EQUAL(rc != 0, err.text[0] != '\0');
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(domains); i++) {
        int rc = wire_domain_read(host, ht_slice_str(domains[i].text), 2, &err);
        CU_ASSERT_EQUAL(rc, domains[i].read ? 0 : HT_EINVAL);
        if (rc == 0 && domains[i].read)
            CU_ASSERT_STRING_EQUAL(host, domains[i].read);
    }
    CU_ASSERT_EQUAL(wire_domain_read(host, ht_slice_str("localhost"), 1, &err), 0);
    char longest[300];
    memset(longest, 'a', sizeof longest);
    for (size_t i = 50; i < sizeof longest; i += 50)
        longest[i] = '.';
    CU_ASSERT_EQUAL(wire_domain_read(host, ht_slice_of(longest, 253), 2, &err), 0);
    CU_ASSERT_EQUAL(wire_domain_read(host, ht_slice_of(longest, 254), 2, &err), HT_EINVAL);
    CU_ASSERT_EQUAL(wire_asked_host(host, ht_slice_of(longest, 253)), 253);
    CU_ASSERT_EQUAL(wire_asked_host(host, ht_slice_of(longest, 254)), 0);
    for (size_t i = 0; i < HT_ARRAY_LEN(asked); i++) {
        size_t n = wire_asked_host(host, ht_slice_str(asked[i].text));
        CU_ASSERT_EQUAL(n, asked[i].read ? strlen(asked[i].read) : 0);
        if (n && asked[i].read)
            CU_ASSERT_STRING_EQUAL(host, asked[i].read);
    }
}

int main(void) {
    static const struct tap_test tests[] = {{"labels and domains", test_read}, {NULL, NULL}};
    return tap_main("wire labels", tests);
}
