/* URLs and targets as people write them. */
#include "base/mem.h"
#include "driver/url.h"
#include "support/tap.h"
#include "wire_gen.h"

static void good_urls(void) {
    static const struct {
        const char *text, *host, *field, *path;
        unsigned port;
        bool tls;
    } rows[] = {
        {"ws://kit.example", "kit.example", "kit.example", WIRE_CONNECT_PATH, 80, false},
        {"wss://kit.example", "kit.example", "kit.example", WIRE_CONNECT_PATH, 443, true},
        {"wss://kit.example/", "kit.example", "kit.example", WIRE_CONNECT_PATH, 443, true},
        {"WSS://Kit.Example:8443/x/y", "Kit.Example", "Kit.Example:8443", "/x/y" WIRE_CONNECT_PATH, 8443, true},
        {"http://kit.example:50", "kit.example", "kit.example:50", WIRE_CONNECT_PATH, 50, false},
        {"https://kit.example", "kit.example", "kit.example", WIRE_CONNECT_PATH, 443, true},
        {"https://kit.example:443", "kit.example", "kit.example", WIRE_CONNECT_PATH, 443, true},
        {"ws://kit.example:443", "kit.example", "kit.example:443", WIRE_CONNECT_PATH, 443, false},
        {"127.0.0.1:50", "127.0.0.1", "127.0.0.1:50", WIRE_CONNECT_PATH, 50, false},
        {"127.9.9.9", "127.9.9.9", "127.9.9.9", WIRE_CONNECT_PATH, 80, false},
        {"localhost:8080/t", "localhost", "localhost:8080", "/t" WIRE_CONNECT_PATH, 8080, false},
        {"LocalHost:8080", "LocalHost", "LocalHost:8080", WIRE_CONNECT_PATH, 8080, false},
        {"[::1]:50", "::1", "[::1]:50", WIRE_CONNECT_PATH, 50, false},
        {"[::1]", "::1", "[::1]", WIRE_CONNECT_PATH, 80, false},
        {"kit.example:50", "kit.example", "kit.example:50", WIRE_CONNECT_PATH, 50, true},
        {"kit.example", "kit.example", "kit.example", WIRE_CONNECT_PATH, 443, true},
        {"192.0.2.1:50", "192.0.2.1", "192.0.2.1:50", WIRE_CONNECT_PATH, 50, true},
        {"[2001:db8::1]:50", "2001:db8::1", "[2001:db8::1]:50", WIRE_CONNECT_PATH, 50, true},
        {"ws://k/a/b?c=d", "k", "k", "/a/b" WIRE_CONNECT_PATH "?c=d", 80, false},
        {"ws://k/a/connect?c=d", "k", "k", "/a/connect?c=d", 80, false},
        {"ws://k/connect/", "k", "k", "/connect", 80, false},
        {"ws://k/edge/", "k", "k", "/edge" WIRE_CONNECT_PATH, 80, false},
        {"https://k/edge/api/v1/tunnel", "k", "k", "/edge" WIRE_CONNECT_PATH, 443, true},
        {"https://k/edge/api/v1/tunnel/connect", "k", "k", "/edge" WIRE_CONNECT_PATH, 443, true},
        {"ws://k//", "k", "k", WIRE_CONNECT_PATH, 80, false},
        {"ws://k?c=d", "k", "k", WIRE_CONNECT_PATH "?c=d", 80, false},
        {"ws://k/?c=d", "k", "k", WIRE_CONNECT_PATH "?c=d", 80, false},
        {"ws://under_score.example", "under_score.example", "under_score.example", WIRE_CONNECT_PATH, 80, false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct driver_url u;
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(driver_url_parse(&u, rows[i].text, WIRE_CONNECT_PATH, &e), 0);
        CU_ASSERT_STRING_EQUAL(e.text, "");
        CU_ASSERT_STRING_EQUAL(u.host, rows[i].host);
        CU_ASSERT_STRING_EQUAL(u.host_field, rows[i].field);
        CU_ASSERT_STRING_EQUAL(u.path, rows[i].path);
        CU_ASSERT_EQUAL(u.port, rows[i].port);
        CU_ASSERT_EQUAL(u.tls, rows[i].tls);
    }
}

static void bad_urls(void) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "empty"},
        {"ftp://kit.example", "scheme"},
        {"wss:/kit.example", "port"},
        {"ws://", "host is missing"},
        {"ws://:80", "host is missing"},
        {"/only/a/path", "host is missing"},
        {"ws://kit:0", "is not a port"},
        {"ws://kit:65536", "is not a port"},
        {"ws://kit:999999", "is not a port"},
        {"ws://kit:", "is not a port"},
        {"ws://kit:8x", "is not a port"},
        {"ws://kit:-1", "is not a port"},
        {"ws://::1", "brackets"},
        {"::1", "brackets"},
        {"ws://[::1", "']'"},
        {"ws://[::1]x", "']'"},
        {"ws://[kit]", "IPv6"},
        {"ws://[127.0.0.1]", "IPv6"},
        {"ws://[]", "IPv6"},
        {"ws://user:secret@kit", "token"},
        {"ws://kit#x", "fragment"},
        {"ws://kit/a b", "space"},
        {"ws://kit/\x01", "space"},
        {"ws://k\xc3\xa4se", "percent"},
        {"ws://-kit", "not a host name"},
        {"ws://kit..example", "not a host name"},
        {"ws://ki!t", "not a host name"},
        {"ws://.kit", "not a host name"},
        {"8050", "the host is missing; a kit on this machine is 127.0.0.1:8050"},
        {":8050", "the host is missing; a kit on this machine is 127.0.0.1:8050"},
        {"http://8050/", "the host is missing"},
        {"8050:50", "\"8050\" is neither a host name nor an IPv4 address"},
        {"wss://10.0.1:50", "\"10.0.1\" is neither a host name nor an IPv4 address"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct driver_url u;
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(driver_url_parse(&u, rows[i].text, WIRE_CONNECT_PATH, &e), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, rows[i].says));
        CU_ASSERT_PTR_NULL(strstr(e.text, "secret"));
    }
}

static void long_urls(void) {
    char text[3000];
    struct driver_url u;
    struct ht_errmsg e;
    memset(text, 'a', sizeof text);
    text[DRIVER_HOST_MAX] = '\0';
    CU_ASSERT_EQUAL(driver_url_parse(&u, text, WIRE_CONNECT_PATH, &e), 0);
    text[DRIVER_HOST_MAX] = 'a';
    text[DRIVER_HOST_MAX + 1] = '\0';
    CU_ASSERT_EQUAL(driver_url_parse(&u, text, WIRE_CONNECT_PATH, &e), HT_EINVAL);
    memset(text, 'a', sizeof text);
    text[1] = '/';
    memcpy(text + 1 + DRIVER_PATH_MAX - 8, "/connect", 9);
    CU_ASSERT_EQUAL(driver_url_parse(&u, text, WIRE_CONNECT_PATH, &e), 0);
    CU_ASSERT_EQUAL(strlen(u.path), DRIVER_PATH_MAX);
    memcpy(text + 2 + DRIVER_PATH_MAX - 8, "a/connect" + 1, 9);
    text[1 + DRIVER_PATH_MAX - 8] = 'a';
    CU_ASSERT_EQUAL(driver_url_parse(&u, text, WIRE_CONNECT_PATH, &e), HT_EINVAL);
}

static void admin_paths(void) {
    static const struct {
        const char *url, *path;
    } rows[] = {
        {"ws://k", "/api/v1/tunnel/health"},
        {"ws://k/api/v1/tunnel/connect", "/api/v1/tunnel/health"},
        {"ws://k/api/v1/tunnel/connect?x=y", "/api/v1/tunnel/health"},
        {"ws://k/api/v1/tunnel", "/api/v1/tunnel/health"},
        {"ws://k/api/v1/tunnel/", "/api/v1/tunnel/health"},
        {"ws://k/edge/api/v1/tunnel/connect", "/edge/api/v1/tunnel/health"},
        {"ws://k/edge", "/edge/api/v1/tunnel/health"},
        {"ws://k/connect", "/health"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct driver_url u;
        char path[200];
        CU_ASSERT_EQUAL(driver_url_parse(&u, rows[i].url, WIRE_CONNECT_PATH, NULL), 0);
        CU_ASSERT_EQUAL(driver_url_admin_path(&u, WIRE_CONNECT_PATH, "/health", path, sizeof path), 0);
        CU_ASSERT_STRING_EQUAL(path, rows[i].path);
        CU_ASSERT_EQUAL(driver_url_admin_path(&u, WIRE_CONNECT_PATH, "/health", path, 5), HT_ESPACE);
    }
}

static void good_targets(void) {
    static const struct {
        const char *text, *host;
        unsigned port;
    } rows[] = {
        {"3000", "127.0.0.1", 3000},
        {":3000", "127.0.0.1", 3000},
        {"host:3000", "host", 3000},
        {"[::1]:3000", "::1", 3000},
        {"1", "127.0.0.1", 1},
        {"65535", "127.0.0.1", 65535},
        {"10.0.0.9:80", "10.0.0.9", 80},
        {"00080", "127.0.0.1", 80},
        {"a-b.c_d.example:1", "a-b.c_d.example", 1},
        {"localhost:5432", "localhost", 5432},
        {"http://localhost:3000", "localhost", 3000},
        {"HTTP://[::1]:3000/", "::1", 3000},
        {"http://127.0.0.1", "127.0.0.1", 80},
        {"3000.example:80", "3000.example", 80},
        {"3com:80", "3com", 80},
        {"0xfg:80", "0xfg", 80},
        {"tls://www.example.com:8443", "www.example.com", 8443},
        {"TLS://www.example.com", "www.example.com", 443},
        {"tls+insecure://[::1]:443/", "::1", 443},
        {"https://localhost:3443/", "localhost", 3443},
        {"HTTPS://localhost", "localhost", 443},
        {"https+insecure://10.0.0.9:8443", "10.0.0.9", 8443},
        {"unix:/run/app.sock", "/run/app.sock", 0},
        {"unix:///run/app.sock", "/run/app.sock", 0},
        {"unix://localhost/run/app.sock", "/run/app.sock", 0},
        {"unix:/a=b:c", "/a=b:c", 0},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct driver_target t;
        CU_ASSERT_EQUAL(driver_target_parse(&t, rows[i].text, NULL), 0);
        CU_ASSERT_STRING_EQUAL(t.host, rows[i].host);
        CU_ASSERT_EQUAL(t.port, rows[i].port);
        const char *scheme = strstr(rows[i].text, "://");
        bool tls = scheme && (rows[i].text[0] | 0x20) == 't', https = scheme && (rows[i].text[4] | 0x20) == 's';
        bool insecure = strstr(rows[i].text, "+insecure") != NULL;
        CU_ASSERT_EQUAL(t.tls, insecure ? DRIVER_TLS_INSECURE : tls || https ? DRIVER_TLS : DRIVER_PLAIN);
        CU_ASSERT_EQUAL(t.https, https);
        CU_ASSERT_EQUAL(driver_target_is_unix(&t), t.port == 0);
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(driver_target_check(&t, true, rows[i].text, &e), tls ? HT_EINVAL : HT_OK);
        CU_ASSERT(!tls || (strstr(e.text, rows[i].text) && strstr(e.text, "tls:// is for pull")));
        CU_ASSERT_EQUAL(driver_target_check(&t, false, rows[i].text, &e), https ? HT_EINVAL : HT_OK);
        CU_ASSERT(!https || (strstr(e.text, rows[i].text) && strstr(e.text, "https:// is for expose")));
        char whole[DRIVER_TARGET_TEXT];
        struct driver_target again;
        CU_ASSERT_EQUAL(driver_target_parse(&again, driver_target_text(&t, whole), NULL), 0);
        CU_ASSERT(strcmp(again.host, t.host) == 0 && again.port == t.port && again.tls == t.tls &&
                  again.https == t.https);
    }
}

static void bad_targets(void) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "empty"},
        {"0", "is not a port"},
        {"65536", "is not a port"},
        {"123456", "is not a port"},
        {"-1", "not a host name"},
        {":", "is not a port"},
        {":0", "is not a port"},
        {"host", "port is missing"},
        {"host:", "is not a port"},
        {"host:x", "is not a port"},
        {"::1:80", "brackets"},
        {"[::1]", "port is missing"},
        {"[::1:80", "']'"},
        {"[x]:80", "IPv6"},
        {"a:80:90", "brackets"},
        {"a b:80", "not a host name"},
        {"+80", "not a host name"},
        {"80 ", "not a host name"},
        {"host:80/x", "is not a port"},
        {" 80", "not a host name"},
        /* two ports, as docker and ssh write them */
        {"8080:3000", "8080 is not a host; the target is 3000, and"},
        {"80:3000", "80 is not a host; the target is 3000, and"},
        {"0:localhost:3000", "0 is not a host; the target is localhost:3000, and"},
        {"8080:[::1]:3000", "8080 is not a host; the target is [::1]:3000, and"},
        /* what the C library would take for an address, and a name server for a name */
        {"99999:80", "\"99999\" is neither a host name nor an IPv4 address"},
        {"127.1:80", "\"127.1\" is neither a host name nor an IPv4 address"},
        {"256.1.1.1:80", "is neither a host name nor an IPv4 address"},
        {"host.8080:80", "is neither a host name nor an IPv4 address"},
        {"0x7f000001:80", "is neither a host name nor an IPv4 address"},
        {"a.0x1f:80", "is neither a host name nor an IPv4 address"},
        {"1.2.3.4.:80", "is neither a host name nor an IPv4 address"},
        /* URLs that say more than a target can mean */
        {"wss://localhost:1", "write https://localhost:1"},
        {"ws://localhost:1/x", "write http://localhost:1"},
        {"https://localhost:3443/app", "a target has none; write https://localhost:3443"},
        {"https://", "the host is missing, as in https://localhost:3443"},
        {"https://a:b@host:443", "contains a user name"},
        {"/run/app.sock", "a Unix socket is written unix:/run/app.sock"},
        {"unix:run/app.sock", "named by its whole path"},
        {"unix://run/app.sock", "named by its whole path"},
        {"unix:", "named by its whole path"},
        {"unix:/", "named by its whole path"},
        {"unix:/a\nb", "control character"},
        {"tcp://localhost:5432", "a target is a host and a port; write localhost:5432"},
        {"http://localhost:3000/app", "a target has none; write localhost:3000"},
        {"http://localhost?x=1", "a target has none; write localhost"},
        {"tls://www.example.com:443/app", "a target has no path; write tls://www.example.com:443"},
        {"tls+insecure://www.example.com/?x", "write tls+insecure://www.example.com"},
        {"tls://", "the host is missing, as in tls://www.example.com:443"},
        {"tls://:443", "the host is missing, as in tls://www.example.com:443"},
        {"tls://443", "\"443\" is neither a host name nor an IPv4 address"},
        {"tls://host:0", "is not a port"},
        {"tls://a:b@host:443", "contains a user name"},
        {"http://", "host is missing"},
        {"http://:3000", "host is missing"},
        {"http://8080:3000", "\"8080\" is neither a host name nor an IPv4 address"},
        {"http://a:b@host:80", "contains a user name"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct driver_target t;
        struct ht_errmsg e = {""};
        CU_ASSERT_EQUAL(driver_target_parse(&t, rows[i].text, &e), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, rows[i].says));
    }
}

static const struct tap_test tests[] = {
    {"valid URLs are read", good_urls},
    {"invalid URLs are refused", bad_urls},
    {"URLs have limits", long_urls},
    {"the paths of the admin API are made from the URL", admin_paths},
    {"valid targets are read", good_targets},
    {"invalid targets are refused", bad_targets},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, url", tests); }
