/* Hosts by name: one reader for both ends, and what a name stands for. */
#include "base/mem.h"
#include "support/tap.h"
#include "wire/name.h"

static void spellings(void) {
    static const struct {
        const char *text, *put;
    } rows[] = {
        {"gitlab.example.com", "gitlab.example.com"},
        {"GitLab.Example.COM.", "gitlab.example.com"},
        {"gitlab.example.com:443", "gitlab.example.com:443"},
        {"gitlab.example.com.:443", "gitlab.example.com:443"},
        {"gitlab.example.com:*", "gitlab.example.com:*"},
        {"*.Corp.Example:*", "*.corp.example:*"},
        {"*.corp.example.:8443", "*.corp.example:8443"},
        {"*.corp", "*.corp"},
        {"*.localhost", "*.localhost"},
        {"localhost:1", "localhost:1"},
        {"a_b-c.x1:65535", "a_b-c.x1:65535"},
        {"xn--bcher-kva.example", "xn--bcher-kva.example"},
        {"3com.example:80", "3com.example:80"},
        {"1.2.3.4.example", "1.2.3.4.example"},
        {"10.1.2.3:5432", "10.1.2.3:5432"},
        {"10.1.2.3", "10.1.2.3"},
        {"[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"},
        {"[::1]:*", "[::1]:*"},
        {"[::1]", "[::1]"},
        {"[::ffff:10.1.2.3]:80", "10.1.2.3:80"},
        {"0xfeed.example", "0xfeed.example"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct wire_name name;
        struct ht_errmsg e = {""};
        char out[WIRE_NAME_ROOM];
        CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_str(rows[i].text), &e), 0);
        if (strcmp(wire_name_put(&name, out), rows[i].put) != 0)
            printf("# %s: %s, %s\n", rows[i].text, out, e.text);
        CU_ASSERT_STRING_EQUAL(wire_name_put(&name, out), rows[i].put);
        CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_str(out), NULL), 0);
        CU_ASSERT_STRING_EQUAL(wire_name_put(&name, out), rows[i].put);
    }
}

static void refused(void) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "host is missing"},
        {".", "is empty"},
        {":443", "host is missing"},
        {"a..b", "is empty"},
        {".a", "is empty"},
        {"a.b..", "is empty"},
        {"*", "only at the beginning"},
        {"*:443", "only at the beginning"},
        {"*.", "host is missing"},
        {"*.:443", "host is missing"},
        {"**.a", "only at the beginning"},
        {"a.*.b", "only at the beginning"},
        {"a*.b", "only at the beginning"},
        {"*.*.b", "a host has letters"},
        {"-a.b", "begins or ends with -"},
        {"a-.b", "begins or ends with -"},
        {"b\xc3\xbc"
         "cher.example",
         "A-labels"},
        {"a b", "a host has letters"},
        {"a/b", "a host has letters"},
        {"user@a.b", "a host has letters"},
        {"a%00.b", "a host has letters"},
        {"http://a.b", "number from 1 to 65535"},
        {"a.b:0", "number from 1 to 65535"},
        {"a.b:080", "number from 1 to 65535"},
        {"a.b:65536", "number from 1 to 65535"},
        {"a.b:", "number from 1 to 65535"},
        {"a.b:+1", "number from 1 to 65535"},
        {"a.b:443x", "number from 1 to 65535"},
        {"a.b:**", "number from 1 to 65535"},
        {"2001:db8::1", "brackets"},
        {"::1", "brackets"},
        {"[::1", "brackets"},
        {"[::1]443", "brackets"},
        {"[a.b]:443", "not an IPv6 address"},
        {"[10.1.2.3]:443", "not an IPv6 address"},
        {"[fe80::1%eth0]:443", "not an IPv6 address"},
        {"*.10.1.2.3", "ends in a number"},
        {"*.[::1]", "brackets"},
        {"127.1", "ends in a number"},
        {"2130706433", "ends in a number"},
        {"0x7f000001", "ends in a number"},
        {"0x7f.0.0.1", "ends in a number"},
        {"a.0x1", "ends in a number"},
        {"010.0.0.1", "ends in a number"},
        {"1.2.3.4.5", "ends in a number"},
        {"256.1.1.1", "ends in a number"},
        {"1.2.3.4..", "is empty"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct wire_name name;
        struct ht_errmsg e = {""};
        int rc = wire_name_read(&name, ht_slice_str(rows[i].text), &e);
        if (rc != HT_EINVAL || !strstr(e.text, rows[i].says))
            printf("# %s: %d %s\n", rows[i].text, rc, e.text);
        CU_ASSERT_EQUAL(rc, HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, rows[i].says));
    }
    struct wire_name name;
    CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_of("a\0b", 3), NULL), HT_EINVAL);
}

static void lengths(void) {
    char text[400];
    struct wire_name name;
    char out[WIRE_NAME_ROOM];
    memset(text, 'a', sizeof text);
    for (int i = 63; i < 253; i += 64)
        text[i] = '.';
    memcpy(text + 253, ":65535", 7); /* 63.63.63.61 */
    CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_str(text), NULL), 0);
    CU_ASSERT_STRING_EQUAL(wire_name_put(&name, out), text);
    memcpy(text + 253, "a", 2);
    CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_str(text), NULL), HT_EINVAL);
    memset(text, 'a', 64);
    text[64] = '\0';
    CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_str(text), NULL), HT_EINVAL);
    char wild[400] = "*.";
    memset(text, 'b', 253);
    for (int i = 63; i < 253; i += 64)
        text[i] = '.';
    memcpy(text + 253, ".:65535", 8);
    strcat(wild, text);
    CU_ASSERT_EQUAL(strlen(wild), WIRE_LIMIT_NAME_TEXT);
    CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_str(wild), NULL), 0);
}

static void covering(void) {
    static const struct {
        const char *name, *host;
        unsigned port;
        bool covers;
    } rows[] = {
        {"a.example", "a.example", 80, true},
        {"a.example", "a.example", 443, true},
        {"a.example", "a.example", 8080, false},
        {"a.example", "b.a.example", 443, false},
        {"a.example:8080", "a.example", 8080, true},
        {"a.example:8080", "a.example", 443, false},
        {"a.example:*", "a.example", 1, true},
        {"*.example:443", "a.example", 443, true},
        {"*.example:443", "b.a.example", 443, true},
        {"*.example:443", "example", 443, false},
        {"*.example:443", "xexample", 443, false},
        {"*.example:443", ".example", 443, false},
        {"*.example:443", "a.example.com", 443, false},
        {"*.example:443", "a.example", 444, false},
        {"10.0.0.1:*", "10.0.0.1", 22, true},
        {"10.0.0.1:*", "10.0.0.2", 22, false},
        {"[::1]:22", "::1", 22, true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct wire_name name;
        CU_ASSERT_EQUAL(wire_name_read(&name, ht_slice_str(rows[i].name), NULL), 0);
        CU_ASSERT_EQUAL(wire_name_covers(&name, rows[i].host, (uint16_t)rows[i].port), rows[i].covers);
    }
}

static void authorities(void) {
    char host[WIRE_HOST_ROOM], out[WIRE_NAME_ROOM];
    uint16_t port;
    static const char *const good[][2] = {
        {"Example.COM.:443", "example.com:443"}, {"[::1]:80", "[::1]:80"}, {"10.0.0.1:1", "10.0.0.1:1"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        CU_ASSERT_EQUAL(wire_authority_read(host, &port, ht_slice_str(good[i][0]), NULL), 0);
        CU_ASSERT_STRING_EQUAL(wire_authority_put(host, port, out), good[i][1]);
    }
    static const char *const bad[] = {"a.b",      "a.b:",   "a.b:*",     "*.b:443",    ":443",  "",
                                      "a.b:443/", "::1:80", "0x7f.1:80", "a.b:443:80", "[a]:80"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(wire_authority_read(host, &port, ht_slice_str(bad[i]), &e), HT_EINVAL);
        CU_ASSERT(e.text[0] == '"');
    }
    CU_ASSERT_EQUAL(wire_host_read(host, ht_slice_str("::FFFF:127.0.0.1"), NULL), 0);
    CU_ASSERT_STRING_EQUAL(host, "127.0.0.1");
    CU_ASSERT(wire_host_is_address("127.0.0.1") && wire_host_is_address("::1") && !wire_host_is_address("a.b"));
    struct ht_errmsg e = {""};
    CU_ASSERT_EQUAL(wire_host_read(host, ht_slice_str("a\x1b[2J"), &e), HT_EINVAL);
    CU_ASSERT_PTR_NULL(strchr(e.text, 0x1b));
}

#define BEGIN "-----BEGIN CERTIFICATE-----\n"
#define END "-----END CERTIFICATE-----\n"
#define ONE BEGIN "MIIB+/abc012==\n" END

static void certificates(void) {
    static const char *const good[] = {ONE, ONE ONE "\n" ONE ONE,
                                       "\r\n-----BEGIN CERTIFICATE-----\r\nTUlJ\r\nTUlJ\r\n-----END CERTIFICATE-----",
                                       BEGIN "TUlJ\n-----END CERTIFICATE-----"};
    static const char *const bad[] = {"",
                                      "\n",
                                      ONE ONE ONE ONE ONE,
                                      "-----BEGIN PRIVATE KEY-----\nTUlJ\n-----END PRIVATE KEY-----\n",
                                      ONE "-----BEGIN PRIVATE KEY-----\nTUlJ\n-----END PRIVATE KEY-----\n",
                                      ONE "secret\n",
                                      "a comment\n" ONE,
                                      BEGIN END,
                                      BEGIN "TUlJ\n",
                                      BEGIN BEGIN "TUlJ\n" END,
                                      BEGIN "TU lJ\n" END,
                                      BEGIN "TUlJ===\n" END,
                                      BEGIN "Proc-Type: 4,ENCRYPTED\n" END,
                                      BEGIN "TUlJ\n\n" END,
                                      "-----BEGIN CERTIFICATE----- \nTUlJ\n" END};
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++)
        CU_ASSERT_EQUAL(wire_ca_check(ht_slice_str(good[i]), NULL), 0);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(wire_ca_check(ht_slice_str(bad[i]), &e), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "certificates in PEM"));
        CU_ASSERT_PTR_NULL(strstr(e.text, "secret"));
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each name has one normal form", spellings},
        {"invalid names are refused", refused},
        {"names have limits", lengths},
        {"a name covers its hosts and ports", covering},
        {"authorities are read and written", authorities},
        {"only certificates in PEM are accepted", certificates},
        {NULL, NULL},
    };
    return tap_main("wire, names", tests);
}
